// One leak: what was seen and why, what was done, what it saved.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, post } from "/static/console/js/api.js";
import { ask } from "/static/console/js/ask.js";
import { mayDispatch, now } from "/static/console/js/context.js";
import "/static/console/js/night-flow.js";
import { say } from "/static/console/js/toast.js";
import { dayKey, fullMoment, icon, moment, money, statusChip, words } from "/static/console/js/words.js";

const DAY_MS = 86_400_000;
const KINDS = { burst: "Burst", incipient: "Growing leak", over_threshold: "Zone over threshold" };

class LeakEvent extends LitElement {
  static properties = { key: { attribute: "event" }, found: { state: true } };

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
  }

  async look() {
    try {
      this.found = await get(`/api/v1/leak-events/${this.key}`);
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  async dismiss() {
    const given = await ask({
      title: "No leak", text: "The survey is cancelled, and none follows.", button: "Dismiss",
      fields: [{ name: "reason", label: "What was the water used for?", kind: "text", required: true }],
    });
    if (!given?.reason) return;
    try {
      await post(`/api/v1/leak-events/${this.key}/dismiss`, { reason: given.reason });
      say("Dismissed.");
      this.look();
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  facts() {
    const shown = Object.entries(this.found.facts).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
    return shown.map(([name, value]) => html`<dt>${words(name)}</dt><dd>${typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : String(value)}</dd>`);
  }

  render() {
    const one = this.found;
    if (!one) return html`<p class="empty">Looking…</p>`;
    const from = dayKey(Date.parse(one.onset_at) - 45 * DAY_MS);
    const to = dayKey(Math.min(now(), (one.closed_at ? Date.parse(one.closed_at) : now()) + 21 * DAY_MS) + DAY_MS);
    return html`<div class="page-head"><div><h1>${KINDS[one.kind]} in zone ${one.zone}</h1><p class="lead">${one.text}</p></div>
        ${one.status === "open" && mayDispatch ? html`<button class="button" @click=${this.dismiss}>No leak…</button>` : ""}
        <a class="button" href="/leaks">All leaks</a></div>
      <div class="pile">
        <section class="card" aria-label="Chart of the night flow"><header><h2>Night flow of the zone</h2></header><div class="body"><night-flow .zone=${one.zone} .from=${from} .to=${to}></night-flow></div></section>
        <section class="card" aria-label="What was seen"><header><h2>What was seen, and why</h2></header><div class="body"><dl class="facts">
          <dt>State</dt><dd><span class="chip ${{ open: "danger", closed: "good", dismissed: "cancelled" }[one.status]}">${words(one.status)}</span>${one.dismissed ? html` ${one.dismissed.reason} (${one.dismissed.by.split(":").pop()})` : ""}</dd>
          <dt>Size</dt><dd>${one.size_m3h.toFixed(2)} m³/h, 95 %: ${one.limits_95[0].toFixed(2)} to ${one.limits_95[1].toFixed(2)}</dd>
          ${one.value_per_day === null ? "" : html`<dt>Worth</dt><dd>${money(one.value_per_day, one.currency)} a day</dd>`}
          <dt>Began</dt><dd>${fullMoment(one.onset_at)}</dd><dt>Seen</dt><dd>${fullMoment(one.detected_at)}</dd>
          ${one.closed_at ? html`<dt>Flow fell back</dt><dd>${fullMoment(one.closed_at)}</dd>` : ""}
          ${this.facts()}</dl></div></section>
        <section class="card" aria-label="What was done"><header><h2>What was done</h2></header><div class="body">
          ${one.work.length ? html`<ul class="order-cards">${one.work.map((order) => html`<li><div class="order-card-head"><a href="/?order=${order.id}">${words(order.type)} ${order.number}</a> ${statusChip(order.status)}</div>
            <p class="muted">opened ${moment(order.opened_at)}${order.ended_at ? `, ended ${moment(order.ended_at)}` : ""}${order.code ? `: ${words(order.code)}` : ""}</p></li>`)}</ul>` : html`<p class="empty">Nothing yet.</p>`}</div></section>
        <section class="card" aria-label="What it saved"><header><h2>What it saved</h2></header><div class="body">
          ${one.saved.length ? html`<ul class="notes">${one.saved.map((saved) => html`<li>${icon("info")}${saved.number}: the night flow fell by ${saved.drop_m3h.toFixed(2)} m³/h (95 %: ${saved.limits_95[0].toFixed(2)} to ${saved.limits_95[1].toFixed(2)}), ${words(saved.verdict).toLowerCase()}${saved.provisional ? ", provisional" : ""}; ${saved.saved_m3_per_day.toFixed(0)} m³ a day${saved.saved_per_day === null ? "" : `, ${money(saved.saved_per_day, saved.currency)}`}${saved.lost_m3 === null ? "" : `; ${saved.lost_m3.toFixed(0)} m³ had run out`}.</li>`)}</ul>` : html`<p class="empty">Not known yet: three nights after the repair tell.</p>`}</div></section>
      </div>`;
  }
}

customElements.define("leak-event", LeakEvent);
