// The M36 water balance of one zone: the standard table from the whole to its parts, and the same as one bar.

import { html } from "/static/vendor/lit/lit.js";
import { percent, volume } from "/static/console/js/volumes.js";

const PARTS = [
  ["billed", "Billed", "part-billed"],
  ["unbilled", "Unbilled, authorised", "part-unbilled"],
  ["apparent", "Apparent losses", "part-apparent"],
  ["real_losses", "Real losses", "part-real"],
];

function rows(zone) {
  const part = zone.components ?? {};
  return [
    [0, "System input", zone.system_input, "system_input"],
    [1, "Authorised consumption", zone.authorised],
    [2, "Billed", zone.billed],
    [3, "Billed metered", part.billed_metered_m3],
    [3, "Billed unmetered", part.billed_unmetered_m3],
    [2, "Unbilled", zone.unbilled],
    [3, "Unbilled metered", part.unbilled_metered_m3],
    [3, "Unbilled unmetered", part.unbilled_unmetered_m3],
    [1, "Water losses", zone.water_losses, "water_losses"],
    [2, "Apparent losses", zone.apparent, "apparent"],
    [3, "Unauthorised consumption", zone.unauthorised],
    [3, "Customer meter inaccuracy", zone.meter_inaccuracy],
    [3, "Data handling errors", part.data_handling_m3],
    [2, "Real losses", zone.real_losses, "real_losses"],
    [0, "Non-revenue water", zone.nrw, "nrw"],
  ];
}

/** One bar of the parts of a zone's input. */
export function partsBar(zone) {
  if (!(zone.system_input > 0)) return "";
  const share = (name) => Math.max(0, Math.min(100, (100 * (zone[name] ?? 0)) / zone.system_input));
  const said = PARTS.map(([name, label]) => `${label} ${percent(share(name))}`).join(", ");
  return html`<div class="parts-bar" role="img" aria-label=${said}>${PARTS.map(([name, , token]) => html`<span class=${token} .style=${`width: ${share(name)}%`}></span>`)}</div>
    <ul class="parts-key">${PARTS.map(([, label, token]) => html`<li><span class="swatch ${token}"></span>${label}</li>`)}</ul>`;
}

/** The table with volumes, 95 % limits and shares of the input. */
export function m36Table(zone) {
  const limits = (term) => {
    const pair = term && zone.limits_95?.[term];
    return pair ? `${volume(pair[0])} to ${volume(pair[1])}` : "";
  };
  return html`<div class="table-wrap" role="region" aria-label="M36 water balance" tabindex="0"><table class="m36">
    <thead><tr><th scope="col">M36 water balance</th><th scope="col" class="number">Volume</th><th scope="col" class="number">95 % limits</th><th scope="col" class="number">Of input</th></tr></thead>
    <tbody>${rows(zone).map(([depth, label, value, term]) => html`<tr class="depth-${depth}"><th scope="row">${label}</th><td class="number">${volume(value)}</td>
      <td class="number muted">${limits(term)}</td><td class="number">${value === null || value === undefined || !zone.system_input ? "–" : percent((100 * value) / zone.system_input)}</td></tr>`)}</tbody>
  </table></div>`;
}

const INDICATORS = [
  ["real_l_conn_day", "Real losses, l per connection and day", 1],
  ["apparent_l_conn_day", "Apparent losses, l per connection and day", 1],
  ["real_m3_km_day", "Real losses, m³ per km and day", 2],
  ["uarl_m3", "Unavoidable real losses (UARL), m³", 0],
  ["ili", "Infrastructure leakage index (ILI)", 2],
  ["mains_km", "Mains, km", 1],
  ["connections", "Connections", 0],
  ["pressure_m", "Average pressure, m", 1],
];

/** Indicators that are known, with the small-system flag, the grade and the money. */
export function indicators(zone) {
  const found = zone.indicators ?? {};
  const known = INDICATORS.filter(([name]) => typeof found[name] === "number");
  const grade = zone.validity?.score ?? zone.validity?.grade;
  const money = zone.money ?? {};
  return html`<dl class="facts">
    ${known.map(([name, label, digits]) => html`<dt>${label}</dt><dd>${found[name].toFixed(digits)}${name === "ili" && found.small_system ? html` <span class="chip warn">small system</span>` : ""}</dd>`)}
    ${grade === undefined ? "" : html`<dt>Data validity</dt><dd>${typeof grade === "number" ? grade.toFixed(0) : grade}</dd>`}
    ${typeof money.nrw_cost === "number" ? html`<dt>Cost of non-revenue water</dt><dd>${money.nrw_cost.toFixed(0)}</dd>` : ""}
  </dl>`;
}
