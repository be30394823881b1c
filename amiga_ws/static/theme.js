/*
 * Dark, light or as the system says. A classic script in <head>, so that the page never flashes in the wrong
 * colours; it keeps nothing but this choice in localStorage.
 */
(() => {
  const KEY = "amiga.theme";
  const ORDER = ["auto", "dark", "light"];
  const root = document.documentElement;

  function stored() {
    try {
      const value = localStorage.getItem(KEY) ?? "";
      return ORDER.includes(value) ? value : "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  }

  /** @param {string} theme */
  function apply(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-theme-button]"))) {
      button.setAttribute("aria-label", `Theme: ${theme}. Change`);
      button.title = `Theme: ${theme}`;
      button.querySelector("use")?.setAttribute("href", `#i-theme-${theme}`);
    }
  }

  let theme = stored();
  apply(theme);
  document.addEventListener("DOMContentLoaded", () => {
    apply(theme);
    for (const button of document.querySelectorAll("[data-theme-button]")) {
      button.addEventListener("click", () => {
        theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
        try {
          localStorage.setItem(KEY, theme);
        } catch {
          // then it lasts as long as the page
        }
        apply(theme);
      });
    }
  });
})();
