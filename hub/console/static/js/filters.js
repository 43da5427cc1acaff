// The filters of the work list. They live in the address of the page, so that a view can be sent to a colleague.

import { html } from "/static/vendor/lit/lit.js";
import { OPEN_STATUSES, STATUSES, icon } from "/static/console/js/words.js";

export const NAMES = ["status", "type", "zone", "crew", "account", "q"];
export const PRESETS = [
  ["Open", {}],
  ["Ready", { status: "ready" }],
  ["Held", { status: "held" }],
  ["Out", { status: "assigned,en_route,on_site,paused" }],
  ["Done", { status: "completed,closed" }],
  ["Unable", { status: "unable" }],
];

/** The filters and the chosen order that the address names. */
export function fromAddress() {
  const query = new URLSearchParams(location.search);
  const filters = {};
  for (const name of NAMES) if (query.get(name)) filters[name] = query.get(name);
  return { filters, order: query.get("order") };
}

/** Write filters and chosen order into the address without leaving the page. */
export function toAddress(filters, order) {
  const query = new URLSearchParams();
  for (const name of NAMES) if (filters[name]) query.set(name, filters[name]);
  if (order) query.set("order", order);
  const tail = query.toString();
  history.replaceState(null, "", tail ? `/?${tail}` : "/");
}

/** The filters as the API wants them: no status means all open ones. */
export const forApi = (filters) => ({ ...filters, status: filters.status || OPEN_STATUSES.join(",") });

const same = (a, b) => NAMES.filter((name) => name !== "q").every((name) => (a[name] || "") === (b[name] || ""));

/** The row of presets and fields above the list; `change(filters)` is called with the new filters. */
export function filterBar({ filters, types, zones, crews, change }) {
  const set = (name) => (event) => change({ ...filters, [name]: event.target.value });
  const option = (value, label, chosen) => html`<option value=${value} ?selected=${value === (chosen ?? "")}>${label}</option>`;
  const several = (filters.status ?? "").includes(",");
  return html`<div class="filters" role="search" aria-label="Filter the list">
    <div class="presets" role="group" aria-label="Views">
      ${PRESETS.map(([label, preset]) => html`<button class="preset" aria-pressed=${same(filters, preset)}
        @click=${() => change({ ...preset, q: filters.q })}>${label}</button>`)}
    </div>
    <div class="filter-fields">
      <label class="search-field"><span class="visually-hidden">Number, address, account</span>${icon("filter")}
        <input class="input" type="search" placeholder="Number, address, account" .value=${filters.q ?? ""}
          @input=${(event) => { clearTimeout(filterBar.typing); filterBar.typing = setTimeout(() => set("q")(event), 250); }}></label>
      <select class="input ${filters.status ? "narrowed" : ""}" aria-label="Status" @change=${set("status")}>
        ${option("", "Status", several ? null : filters.status)}
        ${several ? option(filters.status, "Several", filters.status) : ""}
        ${Object.entries(STATUSES).map(([code, label]) => option(code, label, filters.status))}
      </select>
      <select class="input ${filters.type ? "narrowed" : ""}" aria-label="Type of work" @change=${set("type")}>
        ${option("", "Work", filters.type)}
        ${[...types.values()].map((type) => option(type.type, type.title, filters.type))}
      </select>
      <select class="input ${filters.zone ? "narrowed" : ""}" aria-label="Zone" @change=${set("zone")}>
        ${option("", "Zone", filters.zone)}
        ${zones.map((zone) => option(zone.code, zone.name || zone.code, filters.zone))}
      </select>
      <select class="input ${filters.crew ? "narrowed" : ""}" aria-label="Crew" @change=${set("crew")}>
        ${option("", "Crew", filters.crew)}
        ${crews.map((crew) => option(crew.name, crew.name, filters.crew))}
      </select>
    </div>
    ${filters.account
      ? html`<p class="small">Only account <a href="/accounts/${encodeURIComponent(filters.account)}">${filters.account}</a>
          <button class="button quiet" @click=${() => change({ ...filters, account: "" })}>Show all</button></p>`
      : ""}
  </div>`;
}
