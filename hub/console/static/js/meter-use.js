// A meter's register and consumption over a period that can be moved: a week by hours, two months by days, two years by months.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, withQuery } from "/static/console/js/api.js";
import { asTable, keepDrawn } from "/static/console/js/charts.js";
import { now } from "/static/console/js/context.js";
import { doubt, drawRegister, drawUse } from "/static/console/js/meter-charts.js";
import { dayKey, moment, timeOf, words } from "/static/console/js/words.js";

const DAY_MS = 86_400_000;
const SPANS = { hour: ["Hours", 7], day: ["Days", 60], month: ["Months", 730] };
const figure = (value) => (value === null ? "–" : value.toFixed(3));

class MeterUse extends LitElement {
  static properties = { serial: {}, newest: {}, installed: {}, step: { state: true }, gaps: { state: true }, end: { state: true }, found: { state: true }, wrong: { state: true } };

  constructor() {
    super();
    const asked = new URLSearchParams(location.search).get("step");
    this.step = asked in SPANS ? asked : "day";
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    // a meter that fell silent long ago shows its last days, not an empty present
    const last = Date.parse(this.newest) || now();
    this.end = Math.min(now(), last + SPANS[this.step][1] * DAY_MS * 0.1);
    this.look();
    document.addEventListener("readingschange", () => this.look());
    document.addEventListener("gapsfound", (event) => (this.gaps = event.detail));
  }

  period() {
    const { step, end } = this;
    const to = dayKey(end + DAY_MS);
    const from = dayKey(end + DAY_MS - SPANS[step][1] * DAY_MS);
    return step === "month" ? { from: `${from.slice(0, 7)}-01`, to } : { from, to };
  }

  async look() {
    const period = this.period();
    const asked = `${this.step} ${period.to}`;
    this.asked = asked;
    this.wrong = null;
    this.dataset.state = "asking";
    const path = `/api/v1/meters/${encodeURIComponent(this.serial)}`;
    try {
      const [use, curve] = await Promise.all([
        get(withQuery(`${path}/consumption`, { ...period, step: this.step })),
        get(withQuery(`${path}/register-curve`, period)),
      ]);
      if (this.asked === asked) this.found = { use, curves: curve.items };
    } catch (error) {
      this.wrong = explain(error);
    }
  }

  choose(step) {
    this.step = step;
    history.replaceState(null, "", `?step=${step}`);
    this.look();
  }

  move(by) {
    this.end = Math.min(now(), this.end + by * SPANS[this.step][1] * DAY_MS);
    this.look();
  }

  updated(changed) {
    if (!(changed.has("found") || changed.has("gaps")) || !this.found) return;
    for (const stop of this.stops ?? []) stop();
    this.stops = [...this.querySelectorAll(".chart")].map((element) =>
      keepDrawn(element, () => (element.dataset.chart === "use" ? drawUse(element, this.bars()) : drawRegister(element, this.curves()))),
    );
    this.dataset.state = "drawn";
  }

  disconnectedCallback() {
    for (const stop of this.stops ?? []) stop();
    super.disconnectedCallback();
  }

  label(item) {
    if (this.step === "month") return dayKey(item.from).slice(0, 7);
    return this.step === "day" ? dayKey(item.from) : `${dayKey(item.from)} ${timeOf(item.from)}`;
  }

  bars() {
    const { use } = this.found;
    const count = (which) => use.items.filter(which).length;
    const said = `Consumption of meter ${this.serial} by ${this.step}: ${figure(use.total_m3)} m³ in all. ${count((one) => one.estimated && !one.missing)} of ${use.items.length} steps estimated, ${count((one) => one.missing)} missing.`;
    return { items: use.items, label: (item) => this.label(item), said };
  }

  curves() {
    const { use, curves } = this.found;
    const [from, to] = [Date.parse(use.from), Date.parse(use.to)];
    const within = (at) => Date.parse(at) >= from && Date.parse(at) < to;
    const installed = (this.installed ?? "").trim().split(/\s+/).filter((at) => at && within(at)).map((at) => ({ at, text: "installed" }));
    const marks = [...use.events.map((event) => ({ at: event.at, text: words(event.kind).toLowerCase() })), ...installed];
    const doubted = curves.flatMap((curve) => curve.points).filter(doubt).length;
    const said = `Register of meter ${this.serial}, ${dayKey(from)} to ${dayKey(to)}. ${doubted} readings doubted or edited, ${marks.length} events.`;
    // the numbers that a device counted and that never came lie somewhere between these two
    const spans = (this.gaps ?? [])
      .filter((gap) => !gap.closed_at && gap.after_at && gap.before_at && Date.parse(gap.after_at) < to && Date.parse(gap.before_at) > from)
      .map((gap) => ({ from: gap.after_at, to: gap.before_at, text: `${gap.missing} missing` }));
    return { curves, marks, spans, from, to, said };
  }

  state(item) {
    if (item.missing) return item.volume_m3 === null ? "missing" : "partly missing";
    return item.estimated ? "estimated" : "measured";
  }

  render() {
    const moved = html`<div class="period"><div class="tabs" role="group" aria-label="Step">${Object.entries(SPANS).map(([step, [name]]) => html`<button class="preset" aria-pressed=${this.step === step} @click=${() => this.choose(step)}>${name}</button>`)}</div>
      <button class="button" @click=${() => this.move(-1)}>Earlier</button>
      <button class="button" ?disabled=${this.end >= now() - DAY_MS} @click=${() => this.move(1)}>Later</button></div>`;
    return html`<div class="pile">
      <section class="card" aria-label="Chart of consumption"><header><h2>Consumption</h2></header><div class="body">${moved}${this.wrong ? html`<p class="notice danger">${this.wrong}</p>` : ""}${this.use()}</div></section>
      <section class="card" aria-label="Chart of the register"><header><h2>Register</h2></header><div class="body">${this.register()}</div></section></div>`;
  }

  use() {
    if (!this.found) return html`<p class="empty">Computing…</p>`;
    const { use } = this.found;
    if (!use.items.some((item) => item.volume_m3 !== null)) return html`<p class="empty">No consumption is known of ${this.period().from} to ${this.period().to}.</p>`;
    return html`<div class="chart" data-chart="use"></div>
      <p class="muted small">${dayKey(use.from)} to ${dayKey(Date.parse(use.to) - 1)}: <strong>${figure(use.total_m3)} m³</strong></p>
      ${asTable("Consumption", ["Step", "m³", "Known, %", "State"], use.items.map((item) => [this.label(item), figure(item.volume_m3), (100 * item.coverage).toFixed(0), this.state(item)]))}`;
  }

  register() {
    if (!this.found) return html`<p class="empty">Looking…</p>`;
    const { curves, use } = this.found;
    const rows = curves.flatMap((curve) => curve.points.map((point) => [moment(point[0]), words(curve.register), String(Number(point[1])), words(doubt(point) ?? "good")]));
    if (!rows.length) return html`<p class="empty">No reading of ${this.period().from} to ${this.period().to}.</p>`;
    return html`<div class="chart" data-chart="register"></div>
      <p class="muted small">Doubted values far from the register's course stand at the edge of the chart; the table has them as they are.</p>
      ${use.events.length ? html`<ul class="muted small">${use.events.map((event) => html`<li>${words(event.kind)} ${moment(event.at)}: from ${event.before_m3} to ${event.after_m3} m³</li>`)}</ul>` : ""}
      ${asTable("Register", ["Read", "Register", curves[0].unit ?? "As sent", "Quality"], rows)}`;
  }
}

customElements.define("meter-use", MeterUse);
