// Water supplied, billed and lost, zone by zone: a ranked table beside a map, each figure with how much of it was measured.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import * as maplibre from "/static/vendor/maplibre-gl/maplibre-gl.mjs";
import { explain, get } from "/static/console/js/api.js";
import { now } from "/static/console/js/context.js";
import { CLASSES, NONE, THIN, classOf, patternOf, patterns } from "/static/console/js/loss-classes.js";
import { indicators, m36Table, partsBar } from "/static/console/js/m36-table.js";
import { colour, frame, networkStyle } from "/static/console/js/map-style.js";
import "/static/console/js/night-flow.js";
import { say } from "/static/console/js/toast.js";
import { percent, unit, volume } from "/static/console/js/volumes.js";
import { dayKey, icon } from "/static/console/js/words.js";

const DAY_MS = 86_400_000;

/** Periods to choose from, as local days [from, to). */
function presets() {
  const today = dayKey(now());
  const back = (days) => dayKey(now() - days * DAY_MS);
  const [year, month] = today.split("-").map(Number);
  const first = (ago) => new Date(Date.UTC(year, month - 1 - ago, 1)).toISOString().slice(0, 10);
  return [
    ["Last 7 days", back(7), today],
    ["Last 30 days", back(30), today],
    ["Last month", first(1), first(0)],
    ["Last 3 months", first(3), first(0)],
  ];
}

class ZonesPage extends LitElement {
  static properties = { from: { state: true }, to: { state: true }, report: { state: true }, chosen: { state: true }, loading: { state: true } };

  constructor() {
    super();
    const query = new URLSearchParams(location.search);
    const [, from, to] = presets()[1];
    Object.assign(this, { from: query.get("from") ?? from, to: query.get("to") ?? to, report: null, chosen: query.get("zone"), loading: true });
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
  }

  async firstUpdated() {
    const [{ bounds, names }] = await Promise.all([frame(), document.fonts.load("16px Inter").catch(() => [])]);
    this.names = names;
    try {
      this.map = new maplibre.Map({
        container: this.querySelector(".zone-map"), style: this.style_(), attributionControl: false, fadeDuration: 0, dragRotate: false,
        ...(bounds ? { bounds, fitBoundsOptions: { padding: 28 } } : { center: [0, 0], zoom: 2 }),
      });
    } catch {
      return;
    }
    this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    this.map.on("error", (event) => console.warn("map:", event.error?.message ?? event));
    this.map.on("style.load", () => this.addPatterns());
    this.map.on("click", "loss", (event) => this.choose(event.features[0].properties.code));
    this.map.once("idle", () => (this.dataset.state = "idle"));
    document.addEventListener("themechange", () => this.repaint());
  }

  disconnectedCallback() {
    this.map?.remove();
    super.disconnectedCallback();
  }

  addPatterns() {
    for (const [name, image] of patterns()) {
      if (this.map.hasImage(name)) this.map.removeImage(name);
      this.map.addImage(name, image, { pixelRatio: 2 });
    }
  }

  repaint() {
    this.map?.setStyle(this.style_(), { diff: false });
  }

  style_() {
    const network = networkStyle({ names: this.names, zoneFill: false, points: false });
    const pairs = (this.report?.zones ?? []).flatMap((zone) => [zone.zone, patternOf(zone)]);
    // one layer, in which an inner zone covers the one around it, hatching and all
    const fill = {
      id: "loss", type: "fill", source: "zones", "source-layer": "zones",
      paint: { "fill-pattern": pairs.length ? ["match", ["get", "code"], ...pairs, `full-${NONE}`] : `full-${NONE}` },
    };
    const ring = {
      id: "chosen-zone", type: "line", source: "zones", "source-layer": "zones", filter: ["==", ["get", "code"], this.chosen ?? ""],
      paint: { "line-color": colour("accent"), "line-width": 3 },
    };
    const [land, ...rest] = network.layers;
    return { ...network, layers: [land, fill, ...rest, ring] };
  }

  async look() {
    this.loading = true;
    try {
      this.report = await get(`/api/v1/water-balance?from=${this.from}&to=${this.to}`);
      this.repaint();
    } catch (error) {
      say(explain(error), { wrong: true });
    } finally {
      this.loading = false;
    }
  }

  period(from, to) {
    if (!from || !to || from >= to) return;
    Object.assign(this, { from, to });
    this.address();
    this.look();
  }

  choose(code) {
    this.chosen = this.chosen === code ? null : code;
    this.address();
    this.map?.setFilter("chosen-zone", ["==", ["get", "code"], this.chosen ?? ""]);
  }

  address() {
    const query = new URLSearchParams({ from: this.from, to: this.to, ...(this.chosen ? { zone: this.chosen } : {}) });
    history.replaceState(null, "", `/zones?${query}`);
  }

  figures(system) {
    if (!system) return "";
    const limits = system.limits_95?.water_losses;
    return html`<section class="band" aria-label="The whole system">
      <div><p class="muted small">Supplied</p><p class="figure">${volume(system.system_input)}</p></div>
      <div><p class="muted small">Billed</p><p class="figure">${volume(system.billed)}</p></div>
      <div><p class="muted small">Lost</p><p class="figure">${volume(system.loss_m3)}</p>
        ${limits ? html`<p class="muted small">95 %: ${volume(limits[0])} to ${volume(limits[1])}</p>` : ""}</div>
      <div><p class="muted small">Lost of supply</p><p class="figure">${percent(system.loss_pct)}</p></div>
      <div><p class="muted small">Measured</p><p class="figure">${percent(100 * system.coverage.overall)}</p>
        <p class="muted small">${system.coverage.points - system.coverage.points_without_data} of ${system.coverage.points} places with data</p></div>
    </section>`;
  }

  exports() {
    const href = (format) => `/api/v1/water-balance?from=${this.from}&to=${this.to}&format=${format}`;
    return html`<p class="exports"><span class="muted">These balances as</span>
      ${[["pdf", "PDF"], ["xlsx", "Excel"], ["csv", "CSV"], ["geojson", "GeoJSON"], ["html", "a page to print"]].map(([format, label]) => html`<a href=${href(format)}>${label}</a>`)}</p>`;
  }

  row(zone, most) {
    const thin = zone.coverage.overall < THIN;
    const kind = classOf(zone);
    const width = most > 0 && zone.loss_m3 > 0 ? Math.max(2, (100 * zone.loss_m3) / most) : 0;
    const half = zone.limits_95?.water_losses ? (zone.limits_95.water_losses[1] - zone.limits_95.water_losses[0]) / 2 : null;
    return html`<tr class=${this.chosen === zone.zone ? "chosen" : ""}>
      <th scope="row"><button class="zone-name" aria-pressed=${this.chosen === zone.zone} @click=${() => this.choose(zone.zone)}>${zone.name || zone.zone}</button>
        <span class="muted small">${zone.zone}</span></th>
      <td class="number">${volume(zone.system_input)}</td>
      <td class="number">${volume(zone.billed)}</td>
      <td class="number"><strong>${volume(zone.loss_m3)}</strong>${half === null ? "" : html`<span class="muted small"> ± ${volume(half)}</span>`}
        <span class="loss-bar ${thin ? "thin" : ""}"><span class=${kind?.token ?? ""} .style=${`width: ${width}%`}></span></span></td>
      <td class="number">${percent(zone.loss_pct)}</td>
      <td class="number">${percent(100 * zone.coverage.overall)}${thin ? html` <span class="chip warn">thin</span>` : ""}</td>
    </tr>`;
  }

  detail() {
    const zone = this.report?.zones.find((one) => one.zone === this.chosen);
    if (!zone) return "";
    return html`<section class="card" aria-label="Zone ${zone.name || zone.zone}">
      <header><h2>${zone.name || zone.zone}</h2><a class="button" href="/?zone=${encodeURIComponent(zone.zone)}">${icon("order")}Work in this zone</a></header>
      <div class="body">
        ${zone.flows.length
          ? html`<div class="table-wrap" role="region" aria-label="Meters at the edge" tabindex="0"><table>
              <thead><tr><th scope="col">Meter at the edge</th><th scope="col">Direction</th><th scope="col" class="number">Volume</th><th scope="col" class="number">Measured</th></tr></thead>
              <tbody>${zone.flows.map((flow) => html`<tr><th scope="row">${flow.meter}</th><td>${flow.direction === "in" ? "into the zone" : "out of the zone"}${flow.other_zone ? `, ${flow.direction === "in" ? "from" : "to"} ${flow.other_zone}` : ""}</td>
                <td class="number">${volume(flow.corrected_m3)}</td><td class="number">${percent(100 * flow.coverage)}</td></tr>`)}</tbody></table></div>`
          : html`<p class="muted">No meter measures what flows into this zone.</p>`}
        <p class="muted small sources">Billed water: ${zone.billed_sources.bills.points} places from bills, ${zone.billed_sources.registers.points} from meter registers. Revision ${zone.revision} of this balance.</p>
        <details class="zone-more" open><summary>Water balance (M36)</summary>${partsBar(zone)}${m36Table(zone)}${indicators(zone)}</details>
        <details class="zone-more" @toggle=${(event) => { this.nights = event.target.open; this.requestUpdate(); }}><summary>Night flow</summary>
          ${this.nights ? html`<night-flow .zone=${zone.zone} .from=${this.from} .to=${this.to}></night-flow>` : ""}</details>
        ${zone.notes.length ? html`<ul class="notes">${zone.notes.map((note) => html`<li>${icon("info")}${note}</li>`)}</ul>` : ""}
      </div></section>`;
  }

  render() {
    const zones = [...(this.report?.zones ?? [])].sort((a, b) => (b.loss_pct ?? -Infinity) - (a.loss_pct ?? -Infinity));
    const most = Math.max(0, ...zones.map((zone) => zone.loss_m3 ?? 0));
    return html`<div class="page-head"><div><h1>Water lost, zone by zone</h1>
        <p class="lead">What flows in, less what is billed and otherwise allowed. Volumes in ${unit()}.</p></div></div>
      <div class="periods"><div class="tabs" role="group" aria-label="Period">
          ${presets().map(([label, from, to]) => html`<button class="preset" aria-pressed=${this.from === from && this.to === to} @click=${() => this.period(from, to)}>${label}</button>`)}</div>
        <label>From <input class="input" type="date" .value=${this.from} @change=${(event) => this.period(event.target.value, this.to)}></label>
        <label>to (not included) <input class="input" type="date" .value=${this.to} @change=${(event) => this.period(this.from, event.target.value)}></label></div>
      ${this.figures(this.report?.system)}
      ${this.exports()}
      <div class="zone-columns">
        <section class="card zone-map-card" aria-label="Map of the loss"><div class="zone-map"></div>
          <ul class="classes" aria-label="Lost of supply">${CLASSES.map((one) => html`<li><span class="swatch ${one.token}"></span>${one.label}</li>`)}
            <li><span class="swatch hatched"></span>less than ${Math.round(THIN * 100)} % measured</li></ul></section>
        <div class="pile">
          <section class="card" aria-label="Balances" aria-busy=${this.loading}>
            <div class="table-wrap" role="region" aria-label="Loss by zone" tabindex="0"><table class="losses">
              <thead><tr><th scope="col">Zone</th><th scope="col" class="number">Supplied</th><th scope="col" class="number">Billed</th><th scope="col" class="number">Lost</th><th scope="col" class="number">Of supply</th><th scope="col" class="number">Measured</th></tr></thead>
              <tbody>${zones.map((zone) => this.row(zone, most))}</tbody></table></div>
            ${zones.length ? "" : html`<p class="empty">${this.loading ? "Computing…" : "There is no zone yet. Import them with curbstop import zones FILE."}</p>`}
          </section>
          ${this.detail()}
        </div>
      </div>`;
  }
}

customElements.define("zones-page", ZonesPage);
