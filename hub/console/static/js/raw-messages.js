// What devices sent, byte for byte, and how each message is read, step by step.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, withQuery } from "/static/console/js/api.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";
import { say } from "/static/console/js/toast.js";
import { moment, words } from "/static/console/js/words.js";

const SHOWN = 20;
export const DISPOSITIONS = { readings: "good", event_only: "accent", unclaimed: "warn", quarantine: "danger" };

function pretty(message) {
  if (message.payload === null) return atob(message.payload_base64).replace(/[^]/g, (letter) => letter.charCodeAt(0).toString(16).padStart(2, "0").concat(" "));
  try {
    return JSON.stringify(JSON.parse(message.payload), null, 2);
  } catch {
    return message.payload;
  }
}

/** Show one message: how it is read under today's registry, what it yields, its bytes. */
export async function showMessage(id) {
  let message;
  try {
    message = await get(`/api/v1/raw-messages/${id}`);
  } catch (error) {
    say(explain(error), { wrong: true });
    return;
  }
  const { decoded } = message;
  const title = `Message ${id}`;
  openDialog(title, (close) => html`<div class="dialog">${dialogHead(title, close)}<div class="dialog-body">
    <p class="muted small serial">${message.topic} · arrived ${moment(message.received_at)}${message.retained ? " · retained" : ""} · kept as ${words(message.disposition).toLowerCase()}${message.reason ? ` (${words(message.reason).toLowerCase()})` : ""}</p>
    <h3>How it is read today</h3>
    <ol class="steps">${decoded.steps.map((step) => html`<li>${step}</li>`)}<li><strong>${words(decoded.disposition)}</strong>${decoded.reason ? `: ${words(decoded.reason).toLowerCase()}` : ""}</li></ol>
    ${decoded.readings.length ? html`<div class="table-wrap" role="region" aria-label="Values" tabindex="0"><table>
      <thead><tr><th scope="col">Device</th><th scope="col">Register</th><th scope="col" class="number">Value</th><th scope="col">Time</th><th scope="col">Flags</th></tr></thead>
      <tbody>${decoded.readings.map((one) => html`<tr><th scope="row" class="serial">${one.device_id ?? "–"}</th><td>${words(one.register)}</td><td class="number">${one.value ?? "–"} ${one.unit ?? ""}</td><td>${one.timestamp ? moment(one.timestamp) : "on arrival"}</td><td>${one.flags.join(", ")}</td></tr>`)}</tbody></table></div>` : ""}
    <h3>As it arrived</h3><pre class="json" tabindex="0" aria-label="Bytes of the message" role="region">${pretty(message)}</pre></div></div>`);
}

class RawMessages extends LitElement {
  static properties = { devices: {}, items: { state: true }, next: { state: true }, device: { state: true } };

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.names = [...new Set((this.devices ?? "").split("\n").filter(Boolean))];
    [this.device] = this.names;
    this.items = [];
    if (this.device) this.look();
  }

  async look(cursor = null) {
    try {
      const page = await get(withQuery(`/api/v1/devices/${encodeURIComponent(this.device)}/raw-messages`, { limit: SHOWN, cursor }));
      this.items = cursor ? [...this.items, ...page.items] : page.items;
      this.next = page.next_cursor;
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  choose(device) {
    this.device = device;
    this.look();
  }

  render() {
    return html`<section class="card" aria-label="Raw messages"><header><h2>Raw messages</h2></header>
      ${this.names.length > 1 ? html`<div class="replay tabs" role="group" aria-label="Device">${this.names.map((name) => html`<button class="preset" aria-pressed=${this.device === name} @click=${() => this.choose(name)}>${name}</button>`)}</div>` : ""}
      ${this.items.length
        ? html`<div class="table-wrap" role="region" aria-label="Messages" tabindex="0"><table>
            <thead><tr><th scope="col">Arrived</th><th scope="col">Became</th><th scope="col">Message</th></tr></thead>
            <tbody>${this.items.map((one) => html`<tr><th scope="row"><button class="link" @click=${() => showMessage(one.id)}>${moment(one.received_at)}</button></th>
              <td><span class="chip ${DISPOSITIONS[one.disposition] ?? ""}">${words(one.disposition)}</span>${one.reason ? html` <span class="muted small">${words(one.reason)}</span>` : ""}</td>
              <td><span class="preview">${(one.payload ?? one.payload_base64).slice(0, 120)}</span></td></tr>`)}</tbody></table></div>
            ${this.next ? html`<p class="more"><button class="button" @click=${() => this.look(this.next)}>Show more</button></p>` : ""}`
        : html`<p class="empty">${this.device ? "No message is kept." : "No radio reports this meter."}</p>`}</section>`;
  }
}

customElements.define("raw-messages", RawMessages);
