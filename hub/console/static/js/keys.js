// The list of keys, on "?".

import { html } from "/static/vendor/lit/lit.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";

const KEYS = [
  [["j", "k"], "next and previous order (arrow keys too)"],
  [["Enter"], "open the order"],
  [["Space"], "mark the order"],
  [["x"], "clear the marks"],
  [["1", "…", "9"], "assign the order, or all marked ones, to that crew"],
  [["a"], "choose a crew to assign to"],
  [["c"], "complete the opened order from paper or radio"],
  [["n"], "add a note to the opened order"],
  [["m"], "to the map: arrow keys move it, + and − zoom"],
  [["/"], "search accounts, addresses, meters, orders"],
  [["Ctrl", "Z"], "undo the last assignment"],
  [["Esc"], "close"],
];

/** Show the keys in a dialog. */
export function showKeys() {
  openDialog(
    "Keys",
    (close) => html`<div class="dialog">
      ${dialogHead("Keys", close)}
      <div class="dialog-body"><dl class="keys">${KEYS.map(([keys, text]) => html`<dt>${keys.map((key) => (key === "…" ? "…" : html`<kbd>${key}</kbd>`))}</dt><dd>${text}</dd>`)}</dl></div>
    </div>`,
  );
}
