/**
 * A tab that nobody looks at asks for news less often; one that is looked at again, or a device that has slept or found
 * its network, is up to date at once.
 */

/** @typedef {import('./client.js').LiveClient} LiveClient */

const HIDDEN_S = 15; // the title still tells of trouble soon enough
const PATIENCE_MS = 10_000; // a glance at another tab changes nothing
const LOOK_MS = 1_000;
const SLEPT_MS = 20_000; // more than a busy page is ever late

/**
 * @param {LiveClient} client its interval now is the one for a tab that is looked at
 * @param {() => void} awake after this device has slept, before the client comes back
 */
export function keepPace(client, awake) {
  const shownS = client.interval;
  const visible = () => document.visibilityState === "visible";
  let timer = 0;

  function turned() {
    clearTimeout(timer);
    if (!visible()) {
      timer = window.setTimeout(() => void client.setInterval(Math.max(HIDDEN_S, shownS)), PATIENCE_MS);
    } else {
      void client.setInterval(shownS);
      client.wake();
    }
  }
  document.addEventListener("visibilitychange", turned);
  if (!visible()) turned();
  window.addEventListener("online", () => client.wake());
  // not the end of it: the server may be this very device
  window.addEventListener("offline", () => client.wake());

  // The wall clock goes on while a device sleeps, its timers do not. A hidden tab's are slowed by the browser.
  let lookedAt = Date.now();
  setInterval(() => {
    const slept = Date.now() - lookedAt > LOOK_MS + SLEPT_MS;
    lookedAt = Date.now();
    if (!slept || !visible()) return;
    awake();
    client.wake();
  }, LOOK_MS);
}
