// An event stream client on the npm package `eventsource`: what happens is told on stdout, one JSON object a line.
//
//   node sse.mjs URL TOKEN    an empty TOKEN sends no Authorization
//
// A line on stdin cuts the connection, as a broken line would; the package comes back on its own.
import { subscribe } from "node:diagnostics_channel";
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const [url, token] = process.argv.slice(2);
const sockets = new Set();
subscribe("undici:client:connected", ({ socket }) => sockets.add(socket));

const source = new EventSource(url, {
  fetch: (target, init) => {
    tell({ asks: init.headers["Last-Event-ID"] ?? null });
    const headers = token ? { ...init.headers, Authorization: `Bearer ${token}` } : init.headers;
    return fetch(target, { ...init, headers });
  },
});
source.addEventListener("open", () => tell({ open: true }));
source.addEventListener("error", (error) => {
  const dead = source.readyState === EventSource.CLOSED;
  tell({ error: error.code ?? null, dead });
  if (dead) process.exit();
});
for (const name of ["message", "connected", "subscribed", "heartbeat", "bye"]) {
  source.addEventListener(name, (event) =>
    tell({ event: name, data: JSON.parse(event.data), id: event.lastEventId }),
  );
}
createInterface({ input: process.stdin }).on("line", () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});
