// What was doubted about a meter's readings and how people settle it; its alarms; numbers its devices counted that never came.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, post, withQuery } from "/static/console/js/api.js";
import { ask } from "/static/console/js/ask.js";
import { mayDispatch, person } from "/static/console/js/context.js";
import { say } from "/static/console/js/toast.js";
import { moment, words } from "/static/console/js/words.js";

const mayEdit = mayDispatch || person.role === "billing";
const REASON = { name: "reason", label: "Why?", kind: "long", required: true };
// what a person may do with flagged readings: the first two settle all of one matter, the others change one reading
const ACTS = {
  accept: { label: "Accept…", title: "Accept the readings", text: "They are right and count.", done: "Accepted." },
  reject: { label: "Reject…", title: "Reject the readings", text: "They count for nothing; they are kept.", done: "Rejected.", danger: true },
  estimate: { label: "Estimate…", title: "Estimate the reading", text: "The line between its neighbours takes its place, marked as an estimate. The original is kept.", done: "Estimated." },
  replace: { label: "Replace…", title: "Replace the reading", text: "The value that was really on the dial. The original is kept.", done: "Replaced." },
};
const STATES = { active: "danger", latched: "warn", cleared: "good", historic: "" };

class MeterFindings extends LitElement {
  static properties = { serial: {}, devices: {}, found: { state: true }, wrong: { state: true } };

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
  }

  async look() {
    const devices = [...new Set((this.devices ?? "").split("\n").filter(Boolean))].slice(0, 8);
    try {
      const [exceptions, alarms, ...gaps] = await Promise.all([
        get(`/api/v1/meters/${encodeURIComponent(this.serial)}/exceptions?status=all`),
        get(withQuery("/api/v1/alarms", { meter: this.serial })),
        ...devices.map((device) => get(withQuery("/api/v1/gaps", { kind: "device", subject: device, status: "all", limit: 50 }))),
      ]);
      this.found = { exceptions: exceptions.items, alarms: alarms.items, gaps: gaps.flatMap((page) => page.items) };
      document.dispatchEvent(new CustomEvent("gapsfound", { detail: this.found.gaps }));
    } catch (error) {
      this.wrong = explain(error);
    }
  }

  async send(path, body, done) {
    try {
      await post(path, body);
      say(done);
      await this.look();
      document.dispatchEvent(new CustomEvent("readingschange"));
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  async settle(one, action) {
    const about = ACTS[action];
    const value = action === "replace" ? [{ name: "value", label: "Right value, as the dial shows it", required: true }] : [];
    const said = await ask({ title: about.title, text: `${words(one.rule)}, ${moment(one.measured_at)}. ${about.text}`, fields: [...value, REASON], button: about.title, danger: about.danger });
    if (!said) return;
    if (action === "accept" || action === "reject") await this.send(`/api/v1/reading-exceptions/${one.id}/settle`, { action, reason: said.reason }, about.done);
    else {
      const at = encodeURIComponent(one.measured_at);
      await this.send(`/api/v1/meters/${encodeURIComponent(this.serial)}/readings/${at}/edit`, { action, register: one.register, ...said }, about.done);
    }
  }

  async clear(alarm) {
    const said = await ask({ title: "End the alarm", text: `${words(alarm.type)}, since ${moment(alarm.since)}. A later message with its word begins a new one.`, fields: [REASON], button: "End" });
    if (said) await this.send(`/api/v1/alarms/${alarm.id}/clear`, said, "The alarm is over.");
  }

  exception(one) {
    const detail = Object.entries(one.detail).filter(([, value]) => ["string", "number"].includes(typeof value)).map(([name, value]) => `${words(name).toLowerCase()} ${value}`);
    const settled = one.resolution;
    return html`<li><p><strong>${words(one.rule)}</strong>${one.kind && one.kind !== one.rule ? ` · ${words(one.kind).toLowerCase()}` : ""} <span class="chip ${one.status === "open" ? "warn" : "good"}">${one.status === "open" ? "Open" : "Settled"}</span></p>
      <p class="muted small">${words(one.register)}, ${moment(one.measured_at)}${one.last_at && one.last_at !== one.measured_at ? ` to ${moment(one.last_at)}` : ""}${detail.length ? ` · ${detail.join(", ")}` : ""}</p>
      ${settled ? html`<p class="small">${words(settled.action ?? "settled")}${settled.by ? ` by ${String(settled.by).split(":").pop()}` : ""}${settled.reason ? `: ${settled.reason}` : ""}</p>` : ""}
      ${one.status === "open" && mayEdit ? html`<div class="acts">${Object.entries(ACTS).map(([action, { label }]) => html`<button class="button" @click=${() => this.settle(one, action)}>${label}</button>`)}</div>` : ""}</li>`;
  }

  render() {
    if (this.wrong) return html`<p class="notice danger">${this.wrong}</p>`;
    if (!this.found) return html`<p class="empty">Looking…</p>`;
    const { exceptions, alarms, gaps } = this.found;
    return html`<div class="pile">
      <section class="card" aria-label="Doubts about readings"><header><h2>Doubts about readings</h2></header>
        ${exceptions.length ? html`<ul class="findings">${exceptions.map((one) => this.exception(one))}</ul>` : html`<p class="empty">No rule doubts a reading of this meter.</p>`}</section>
      <section class="card" aria-label="Alarms"><header><h2>Alarms</h2></header>
        ${alarms.length ? html`<ul class="findings">${alarms.map((one) => html`<li><p><strong>${words(one.type)}</strong> <span class="chip ${STATES[one.state]}">${words(one.state)}</span></p>
          <p class="muted small">${moment(one.since)} to ${moment(one.ended_at ?? one.last_seen)} · ${one.source === "device" ? `told by ${one.device}` : "derived from readings"}${one.text ? ` · “${one.text}”` : ""}</p>
          ${mayDispatch && !one.ended_at ? html`<div class="acts"><button class="button" @click=${() => this.clear(one)}>End it…</button></div>` : ""}</li>`)}</ul>` : html`<p class="empty">No alarm.</p>`}</section>
      <section class="card" aria-label="Gaps"><header><h2>Gaps</h2></header>
        ${gaps.length ? html`<ul class="findings">${gaps.map((one) => html`<li><p><strong>${one.missing} missing</strong> <span class="chip ${one.closed_at ? "good" : "warn"}">${one.closed_at ? "Arrived since" : "Open"}</span></p>
          <p class="muted small">${one.device}: between number ${one.after} (${moment(one.after_at) || "unknown"}) and ${one.before} (${moment(one.before_at) || "unknown"}) · asked ${one.asks} times</p></li>`)}</ul>` : html`<p class="empty">No number of its devices is missing.</p>`}</section></div>`;
  }
}

customElements.define("meter-findings", MeterFindings);
