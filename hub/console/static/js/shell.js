// What every page has: search, live state, appearance.

import "/static/console/js/live.js";
import "/static/console/js/search-box.js";

const choice = document.querySelector("#theme");
choice.value = localStorage.getItem("curbstop-theme") ?? "auto";
choice.addEventListener("change", () => {
  if (choice.value === "auto") {
    localStorage.removeItem("curbstop-theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("curbstop-theme", choice.value);
    document.documentElement.dataset.theme = choice.value;
  }
  document.dispatchEvent(new CustomEvent("themechange"));
});

const menu = document.querySelector(".menu");
document.addEventListener("click", (event) => {
  if (menu.open && !menu.contains(event.target)) menu.open = false;
});
menu.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

for (const button of document.querySelectorAll("[data-print]")) button.addEventListener("click", () => window.print());
