// A new order by hand: which work, where (account, service point, meter or a position on the map), when, and a note.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain } from "/static/console/js/api.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";
import { instantOf } from "/static/console/js/completion.js";
import { mayOpen } from "/static/console/js/context.js";
import * as work from "/static/console/js/orders.js";
import { icon } from "/static/console/js/words.js";

/** Ask for a new order at `target` ({account, service_point, meter, position, address}). Resolves to the order or null. */
export async function newOrder(target) {
  const types = await work.workTypes();
  const state = { busy: false, wrong: "" };
  return new Promise((resolve) => {
    const submit = async (event, close, draw) => {
      event.preventDefault();
      if (state.busy) return;
      const told = Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
      const body = {
        type: told.type,
        ...(told.account ? { account: told.account } : {}),
        ...(told.service_point ? { service_point: told.service_point } : {}),
        ...(told.meter ? { meter: told.meter } : {}),
        ...(target.position ? { position: [target.position.lon, target.position.lat] } : {}),
        ...(told.not_before ? { not_before: instantOf(told.not_before) } : {}),
        ...(told.due_by ? { due_by: instantOf(told.due_by) } : {}),
        ...(told.note ? { note: told.note } : {}),
      };
      Object.assign(state, { busy: true, wrong: "" });
      draw();
      try {
        close(await work.open(body));
      } catch (error) {
        Object.assign(state, { busy: false, wrong: explain(error) });
        draw();
      }
    };
    const text = (name, label, value) => html`<div class="field"><label for="new-${name}">${label}</label>
      <input class="input" id="new-${name}" name=${name} value=${value ?? ""} maxlength="80" autocomplete="off"></div>`;
    const time = (name, label) => html`<div class="field"><label for="new-${name}">${label} <span class="muted">(optional)</span></label>
      <input class="input" id="new-${name}" name=${name} type="datetime-local"></div>`;
    openDialog(
      "New order",
      (close, draw) => html`<form @submit=${(event) => submit(event, close, draw)}>
        ${dialogHead("New order", close)}
        <div class="dialog-body">
          ${target.address ? html`<p class="muted">${target.address}</p>` : ""}
          <div class="field"><label for="new-type">Work</label>
            <select class="input" id="new-type" name="type" required><option value="">–</option>
              ${types.map((type) => html`<option value=${type.type}>${type.title}</option>`)}</select></div>
          ${target.position
            ? html`<p class="small muted">At ${target.position.lat.toFixed(5)}, ${target.position.lon.toFixed(5)}</p>`
            : html`<div class="three">${text("account", "Account", target.account)}${text("service_point", "Service point", target.service_point)}${text("meter", "Meter serial", target.meter)}</div>
                <p class="small muted">One of the three is enough; the hub finds the rest.</p>`}
          <div class="two">${time("not_before", "Not before")}${time("due_by", "Due by")}</div>
          <div class="field"><label for="new-note">Note for the crew <span class="muted">(optional)</span></label>
            <textarea class="input" id="new-note" name="note" maxlength="4000"></textarea></div>
          ${state.wrong ? html`<p class="notice danger" role="alert">${state.wrong}</p>` : ""}
        </div>
        <div class="dialog-foot"><button class="button quiet" type="button" @click=${() => close(null)}>Back</button>
          <button class="button primary" type="submit" ?disabled=${state.busy}>Open the order</button></div>
      </form>`,
      { onClose: (value) => resolve(value ?? null) },
    );
  });
}

class NewOrder extends LitElement {
  static properties = { account: {}, servicePoint: { attribute: "service-point" } };

  createRenderRoot() {
    return this;
  }

  async ask() {
    const made = await newOrder({ account: this.account, service_point: this.servicePoint });
    if (made) location.assign(`/?order=${made.id}`);
  }

  render() {
    if (!mayOpen) return "";
    return html`<button class="button primary" @click=${() => this.ask()}>${icon("plus")}New order</button>`;
  }
}

customElements.define("new-order", NewOrder);
