// A small dialog that asks for one or two values before a verb: a reason, a note, a time. Answers a promise.

import { html, render } from "/static/vendor/lit/lit.js";
import { icon } from "/static/console/js/words.js";

/** Open a modal `<dialog>` that is gone after it closes; `body(close)` gives its content. Focus returns where it was. */
export function openDialog(label, body, { onClose = () => {} } = {}) {
  const before = document.activeElement;
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", label);
  document.body.append(dialog);
  const close = (value) => {
    dialog.returned = value;
    dialog.close();
  };
  const draw = () => render(body(close, draw), dialog);
  dialog.addEventListener("close", () => {
    render(html``, dialog);
    dialog.remove();
    if (before?.isConnected) before.focus();
    onClose(dialog.returned);
  });
  draw();
  dialog.showModal();
  return dialog;
}

export const dialogHead = (title, close) => html`<div class="dialog-head"><h2>${title}</h2>
  <button class="button quiet icon-only" type="button" aria-label="Close" @click=${() => close(null)}>${icon("close")}</button></div>`;

/**
 * Ask for `fields` ([{name, label, kind: "text" | "long" | "time", required, hint}]).
 * Resolves to their values, or to null when the person thinks better of it.
 */
export function ask({ title, text = "", fields = [], button = "OK", danger = false }) {
  return new Promise((resolve) => {
    const submit = (event, close) => {
      event.preventDefault();
      close(Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()])));
    };
    openDialog(
      title,
      (close) => html`<form @submit=${(event) => submit(event, close)}>
        ${dialogHead(title, close)}
        <div class="dialog-body">
          ${text ? html`<p>${text}</p>` : ""}
          ${fields.map(({ name, label, kind, required, hint, value }) => html`<div class="field">
            <label for="ask-${name}">${label}${required ? "" : html` <span class="muted">(optional)</span>`}</label>
            ${kind === "long"
              ? html`<textarea class="input" id="ask-${name}" name=${name} maxlength="4000" ?required=${required} .value=${value ?? ""}></textarea>`
              : html`<input class="input" id="ask-${name}" name=${name} type=${kind === "time" ? "datetime-local" : "text"} maxlength="400" ?required=${required} .value=${value ?? ""} autocomplete="off">`}
            ${hint ? html`<p class="hint">${hint}</p>` : ""}
          </div>`)}
        </div>
        <div class="dialog-foot">
          <button class="button quiet" type="button" @click=${() => close(null)}>Back</button>
          <button class="button ${danger ? "danger" : "primary"}" type="submit">${button}</button>
        </div>
      </form>`,
      { onClose: (value) => resolve(value ?? null) },
    );
  });
}

/** Let a person choose one crew with the mouse, the digits or the arrow keys. Resolves to the crew or null. */
export function askCrew(title, crews, load) {
  return new Promise((resolve) => {
    const keys = (event, close) => {
      const digit = Number(event.key);
      if (digit >= 1 && digit <= Math.min(9, crews.length)) close(crews[digit - 1]);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        const buttons = [...event.currentTarget.querySelectorAll(".crew-choice")];
        buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length]?.focus();
      }
    };
    openDialog(
      title,
      (close) => html`<div class="dialog" @keydown=${(event) => keys(event, close)}>
        ${dialogHead(title, close)}
        <div class="dialog-body"><ul class="crew-choices">
          ${crews.map((crew, index) => html`<li><button class="crew-choice" ?autofocus=${index === 0} @click=${() => close(crew)}>
            ${index < 9 ? html`<kbd>${index + 1}</kbd>` : html`<span></span>`}<span>${crew.name}</span>
            <span class="muted">${load.get(crew.id) ?? 0} open</span></button></li>`)}
        </ul>${crews.length ? "" : html`<p class="empty">There is no crew yet.</p>`}</div>
      </div>`,
      { onClose: (value) => resolve(value ?? null) },
    );
  });
}
