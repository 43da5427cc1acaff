// A zone's night flow with what was seen in it: leaks as shaded stretches, repairs as lines, the expected use below.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get } from "/static/console/js/api.js";
import { asTable, drawDays, keepDrawn } from "/static/console/js/charts.js";
import { dayKey, words } from "/static/console/js/words.js";

const figure = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

class NightFlow extends LitElement {
  static properties = { zone: {}, from: {}, to: {}, event: {}, found: { state: true }, wrong: { state: true } };

  createRenderRoot() {
    return this;
  }

  willUpdate(changed) {
    if (changed.has("zone") || changed.has("from") || changed.has("to")) this.look();
  }

  async look() {
    const asked = `${this.zone} ${this.from} ${this.to}`;
    this.asked = asked;
    this.wrong = null;
    const code = encodeURIComponent(this.zone);
    try {
      const [flow, seen, saved] = await Promise.all([
        get(`/api/v1/zones/${code}/night-flow?from=${this.from}&to=${this.to}`),
        get(`/api/v1/leak-events?zone=${code}`),
        get(`/api/v1/loss-ledger?zone=${code}`),
      ]);
      if (this.asked === asked) this.found = { flow, events: seen.items, saved: saved.items };
    } catch (error) {
      this.wrong = explain(error);
    }
  }

  updated(changed) {
    if (!changed.has("found") || !this.found) return;
    this.stop?.();
    const element = this.querySelector(".chart");
    if (element) this.stop = keepDrawn(element, () => drawDays(element, this.drawing()));
    this.dataset.state = "drawn";
  }

  disconnectedCallback() {
    this.stop?.();
    super.disconnectedCallback();
  }

  drawing() {
    const { flow, events, saved } = this.found;
    const nights = flow.nights;
    const within = (day) => day >= this.from && day < this.to;
    const level = (value) => nights.map((night) => [night.day, value]);
    const lines = [{ name: "Night flow, 02 to 04 h", token: "accent", values: nights.map((night) => [night.day, night.mean_02_04_m3_h]) }];
    if (flow.night_use_m3_h > 0.005) lines.push({ name: "Expected night use", token: "good", dashed: true, values: level(flow.night_use_m3_h) });
    if (flow.background_m3_h) lines.push({ name: "with background leakage", token: "warn", dashed: true, values: level(flow.night_use_m3_h + flow.background_m3_h) });
    const spans = events
      .filter((one) => one.kind !== "over_threshold" && one.status !== "dismissed")
      .map((one) => ({ from: dayKey(one.onset_at), to: one.closed_at ? dayKey(one.closed_at) : this.to, text: `${one.size_m3h.toFixed(1)} m³/h` }))
      .filter((span) => span.from < this.to && span.to > this.from);
    const marks = saved.map((one) => ({ day: dayKey(one.stopped_at), text: `repaired ${one.number}` })).filter((mark) => within(mark.day));
    const said = `Night flow of zone ${this.zone}, ${this.from} to ${this.to}: minimum ${figure(flow.mnf_m3_h)} m³/h. ${spans.length} leaks seen, ${marks.length} repairs.`;
    return { lines, spans, marks, unit: "m³/h", said };
  }

  render() {
    if (this.wrong) return html`<p class="notice danger">${this.wrong}</p>`;
    if (!this.found) return html`<p class="empty">Computing…</p>`;
    const { flow } = this.found;
    if (!flow.nights.some((night) => night.mean_02_04_m3_h !== null))
      return html`<p class="empty">No night of this time is known hour by hour.</p>`;
    return html`<div class="chart"></div>
      <dl class="facts">
        <dt>Minimum night flow</dt><dd>${figure(flow.mnf_m3_h)} m³/h</dd>
        <dt>Night use</dt><dd>${figure(flow.night_use_m3_h)} m³/h</dd>
        <dt>Background leakage</dt><dd>${figure(flow.background_m3_h)} m³/h</dd>
        <dt>Beyond both</dt><dd>${figure(flow.excess_m3_h)} m³/h${flow.equivalent_bursts === null || flow.equivalent_bursts === undefined ? "" : html`, as of ${figure(flow.equivalent_bursts)} bursts of service pipes`}</dd>
        <dt>Nights known</dt><dd>${flow.coverage.nights} of ${flow.coverage.of_nights}</dd>
      </dl>
      ${asTable("Night flow", ["Night", "02 to 04 h, m³/h", "Lowest hour, m³/h"], flow.nights.map((night) => [night.day, figure(night.mean_02_04_m3_h), figure(night.lowest_hour_m3_h)]))}
      ${flow.night_use?.length ? asTable("Night use", ["Premises", "Places", "l/h each", "From"], flow.night_use.map((use) => [words(use.premise_class) || "Other", use.places, use.litres_per_place_h?.toFixed(1) ?? "–", words(use.source)])) : ""}`;
  }
}

customElements.define("night-flow", NightFlow);
