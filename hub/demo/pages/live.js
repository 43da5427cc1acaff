// Keeps the parts of a page marked data-live fresh, without moving the reader: scroll, focus and forms stay.
"use strict";

const EVERY_MS = 2000;

async function refresh() {
  if (document.hidden) return;
  let fresh;
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return;
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (!next || part.innerHTML === next.innerHTML || part.matches(":hover:has(button:hover)")) continue;
    if (part.contains(document.activeElement)) continue;
    part.replaceChildren(...next.childNodes);
  }
}

setInterval(refresh, EVERY_MS);
