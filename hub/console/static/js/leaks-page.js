// Leaks: Monday's dig list, what was seen in the zones' flows, what repairs saved, where to listen next, which mains to renew.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get } from "/static/console/js/api.js";
import { now } from "/static/console/js/context.js";
import { say } from "/static/console/js/toast.js";
import { dayKey, distance, icon, moment, money, statusChip, words } from "/static/console/js/words.js";

const VIEWS = [
  ["dig", "Dig list", "/api/v1/dig-list"],
  ["events", "Seen", "/api/v1/leak-events"],
  ["ledger", "Saved", "/api/v1/loss-ledger"],
  ["customers", "Customers", "/api/v1/customer-leaks"],
  ["plan", "Survey plan", "/api/v1/survey-plan"],
  ["mains", "Mains", "/api/v1/mains/ranking"],
];
const KINDS = { burst: "Burst", incipient: "Growing leak", over_threshold: "Zone over threshold" };
const size = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));
const day = (instant) => (instant ? dayKey(instant) : "–");
const limits = (pair) => (pair ? html`<span class="muted small">${size(pair[0])} to ${size(pair[1])}</span>` : "");

function table(label, heads, rows, empty) {
  if (!rows.length) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table-wrap" role="region" aria-label=${label} tabindex="0"><table class="leaks">
    <thead><tr>${heads.map(([head, kind]) => html`<th scope="col" class=${kind ?? ""}>${head}</th>`)}</tr></thead>
    <tbody>${rows}</tbody></table></div>`;
}

class LeaksPage extends LitElement {
  static properties = { view: { state: true }, found: { state: true } };

  constructor() {
    super();
    const asked = new URLSearchParams(location.search).get("view");
    this.view = VIEWS.some(([name]) => name === asked) ? asked : "dig";
    this.found = null;
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look(this.view);
  }

  async look(view) {
    this.view = view;
    this.found = null;
    history.replaceState(null, "", view === "dig" ? "/leaks" : `/leaks?view=${view}`);
    try {
      const found = await get(VIEWS.find(([name]) => name === view)[2]);
      if (this.view === view) this.found = found;
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  dig() {
    const rows = this.found.items.map((one) => html`<tr>
      <td class="number">${one.rank}</td>
      <th scope="row"><a href="/leaks/${one.leak_event}">${one.street ?? `Somewhere in ${one.zone_name}`}</a>
        <span class="muted small">${one.zone_name}${one.pinpointed ? ", pinpointed" : one.street ? ", broke here most often" : ""}</span></th>
      <td>${KINDS[one.kind]}<span class="muted small">since ${day(one.onset_at)}, ${distance(one.onset_at)}</span></td>
      <td class="number"><strong>${size(one.size_m3h)}</strong> m³/h ${limits(one.limits_95)}</td>
      <td class="number">${one.m3_per_day.toFixed(0)} m³</td>
      <td class="number">${one.value_per_day === null ? "–" : money(one.value_per_day, one.currency)}</td>
      <td>${one.work_order ? html`<a href="/?q=${one.work_order}">${one.work_order}</a> ${statusChip(one.work_status)}<span class="muted small">${words(one.work_type)}</span>` : "–"}</td></tr>`);
    return table("Dig list", [["#", "number"], ["Where"], ["What was seen"], ["Flow", "number"], ["A day", "number"], ["Worth a day", "number"], ["Work"]], rows, "Nothing runs that the flows would show.");
  }

  events() {
    const rows = this.found.items.map((one) => html`<tr>
      <th scope="row"><a href="/leaks/${one.id}">${one.zone}</a></th><td>${KINDS[one.kind]}</td>
      <td>${day(one.onset_at)}</td><td>${moment(one.detected_at)}</td>
      <td class="number">${size(one.size_m3h)} m³/h ${limits(one.limits_95)}</td>
      <td><span class="chip ${{ open: "danger", closed: "good", dismissed: "cancelled" }[one.status]}">${words(one.status)}</span></td><td>${day(one.closed_at)}</td></tr>`);
    const watched = this.found.watched.map((one) => html`<li>${one.zone}: looked at up to ${moment(one.seen_until)}, ${(100 * one.known_share).toFixed(0)} % of hours known</li>`);
    return html`${table("Leaks seen", [["Zone"], ["Kind"], ["Since"], ["Seen"], ["Flow", "number"], ["State"], ["Over"]], rows, "No leak was seen in any zone's flow.")}
      ${watched.length ? html`<ul class="watched muted small">${watched}</ul>` : html`<p class="muted small">No zone has been looked at yet: that needs six weeks of hourly flows of the meters at its edge.</p>`}`;
  }

  ledger() {
    const { items, totals } = this.found;
    const verdicts = { verified: "good", uncertain: "warn", not_seen: "danger" };
    const rows = items.map((one) => html`<tr>
      <th scope="row"><a href="/?q=${one.number}">${one.number}</a><span class="muted small">${one.address ?? one.main ?? ""}</span></th>
      <td>${one.zone}</td><td>${day(one.stopped_at)}</td>
      <td class="number">${size(one.predicted_m3h)}</td><td class="number">${size(one.found_m3h)}</td>
      <td class="number"><strong>${size(one.drop_m3h)}</strong> ${limits(one.limits_95)}</td>
      <td class="number">${one.lost_m3 === null ? "–" : one.lost_m3.toFixed(0)}</td>
      <td class="number">${one.saved_per_day === null ? `${one.saved_m3_per_day.toFixed(0)} m³` : money(one.saved_per_day, one.currency)}</td>
      <td><span class="chip ${verdicts[one.verdict]}">${words(one.verdict)}</span>${one.provisional ? html` <span class="muted small">provisional</span>` : ""}</td></tr>`);
    return html`<section class="band" aria-label="Sums of verified repairs">
        <div><p class="muted small">Repairs</p><p class="figure">${totals.repairs}</p></div>
        <div><p class="muted small">Verified by the flow</p><p class="figure">${totals.verified}</p></div>
        <div><p class="muted small">Had been lost</p><p class="figure">${totals.lost_m3.toFixed(0)} m³</p></div>
        <div><p class="muted small">Saved a day</p><p class="figure">${totals.saved_per_day === null ? `${totals.saved_m3_per_day.toFixed(0)} m³` : money(totals.saved_per_day)}</p></div>
      </section>
      ${table("Loss ledger", [["Repair"], ["Zone"], ["Stopped"], ["Predicted, m³/h", "number"], ["Measured there", "number"], ["Flow fell by", "number"], ["Had run out, m³", "number"], ["Saved a day", "number"], ["Verdict"]], rows, "No repair has been proven yet.")}`;
  }

  customers() {
    const rows = this.found.items.map((one) => html`<tr>
      <th scope="row">${one.service_point ? html`<a href="/places/${encodeURIComponent(one.service_point)}">${one.address}</a>` : one.meter}<span class="muted small">meter ${one.meter}${one.zone ? `, ${one.zone}` : ""}</span></th>
      <td>${one.account ? html`<a href="/accounts/${encodeURIComponent(one.account)}">${one.account}</a>` : "–"}</td>
      <td class="number"><strong>${one.litres_per_hour === null ? "–" : one.litres_per_hour.toFixed(1)}</strong></td><td class="number">${one.m3_per_day === null ? "–" : one.m3_per_day.toFixed(2)}</td>
      <td>${one.open_ended ? "before " : ""}${day(one.since)}</td>
      <td>${one.certain ? html`<span class="chip danger">Leak</span>` : html`<span class="chip warn">${words(one.alarms[0]?.type)}</span>`}</td>
      <td>${one.finding ? html`${words(one.finding.state)}${one.finding.work_order ? html` <a href="/?q=${one.finding.work_order}">${one.finding.work_order}</a>` : ""}` : "–"}</td></tr>`);
    return table("Customers", [["Place"], ["Account"], ["Litres an hour", "number"], ["m³ a day", "number"], ["Since"], ["Sign"], ["What was done"]], rows, "No customer's water runs without end.");
  }

  plan() {
    const { zones, budget_per_year, settings_missing, currency } = this.found;
    const rows = zones.map((one) => html`<tr><th scope="row">${one.name}<span class="muted small">${one.zone}</span></th>
      <td class="number">${one.mains_km.toFixed(1)}</td><td class="number">${one.rise_m3_km_day_year?.toFixed(2) ?? "–"}</td>
      <td class="number">${one.months_between_surveys?.toFixed(1) ?? "–"}</td><td class="number">${one.km_per_year?.toFixed(1) ?? "–"}</td>
      <td class="number">${one.budget_per_year === null ? "–" : money(one.budget_per_year, currency)}</td>
      <td>${day(one.surveyed_at)}</td><td>${one.due_at ? html`${day(one.due_at)}${Date.parse(one.due_at) < now() ? html` <span class="chip warn">due</span>` : ""}` : "–"}</td></tr>`);
    return html`${settings_missing.length ? html`<p class="notice info">${icon("info")}<span>The plan needs ${settings_missing.join(" and ")} in the settings.</span></p>` : html`<p class="lead">Together ${money(budget_per_year, currency)} a year.</p>`}
      ${table("Survey plan", [["Zone"], ["Mains, km", "number"], ["Rise, m³/km/d a year", "number"], ["Months between", "number"], ["km a year", "number"], ["Budget a year", "number"], ["Last survey"], ["Due"]], rows, "There is no zone yet.")}`;
  }

  mains() {
    const rows = this.found.items.map((one) => html`<tr><th scope="row">${one.main}</th><td>${one.material ?? "–"}</td><td class="number">${one.diameter_mm ?? "–"}</td>
      <td>${one.installed_on ?? "–"}</td><td class="number">${one.km?.toFixed(2) ?? "–"}</td><td class="number">${one.breaks}</td>
      <td class="number">${one.lost_m3.toFixed(0)}</td><td class="number">${one.breaks_per_km_year?.toFixed(2) ?? "–"}</td><td>${day(one.last_at)}</td></tr>`);
    return table("Mains by loss", [["Main"], ["Material"], ["mm", "number"], ["Laid"], ["km", "number"], ["Repairs", "number"], ["Lost, m³", "number"], ["a km and year", "number"], ["Last"]], rows, "No main has been repaired yet.");
  }

  render() {
    return html`<div class="page-head"><div><h1>Leaks</h1><p class="lead">What the flow into the zones shows, where to dig, and what repairs saved.</p></div>
        <a class="button" href="/api/v1/leak-report?month=${dayKey(now()).slice(0, 7)}">${icon("print")}Report of the month (PDF)</a></div>
      <div class="tabs" role="group" aria-label="View">${VIEWS.map(([name, label]) => html`<button class="preset" aria-pressed=${this.view === name} @click=${() => this.look(name)}>${label}</button>`)}</div>
      <p class="exports small"><a href="${VIEWS.find(([name]) => name === this.view)[2]}?format=csv">This list as CSV</a></p>
      <section class="card leak-card" aria-live="polite" aria-busy=${this.found === null} aria-label=${`Shown: ${VIEWS.find(([name]) => name === this.view)[1]}`}><div class="body">${this.found ? this[this.view]() : html`<p class="empty">Looking…</p>`}</div></section>`;
  }
}

customElements.define("leaks-page", LeaksPage);
