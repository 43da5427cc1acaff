// The crews under the map: whom work can be given to by dropping it there, or with the digit each card shows.

import { html } from "/static/vendor/lit/lit.js";
import { distance, icon } from "/static/console/js/words.js";

/** One card per crew; `host.dropOn(crew)` is called when orders are dropped, `host.filterCrew(crew)` on a press. */
export function crewBar(host) {
  if (!host.crews.length)
    return html`<p class="crews-empty muted">No crew yet. Make one on the hub's machine: <code>curbstop crew add North --phone +15550100</code></p>`;
  return html`<ul class="crews" aria-label="Crews">
    ${host.crews.map((crew, index) => {
      const open = host.load.get(crew.id) ?? 0;
      return html`<li>
        <button class="crew" data-crew=${crew.name} aria-pressed=${host.filters.crew === crew.name}
          title="Show only the work of ${crew.name}"
          @click=${() => host.filterCrew(crew)}
          @dragover=${(event) => { event.preventDefault(); event.currentTarget.classList.add("over"); }}
          @dragleave=${(event) => event.currentTarget.classList.remove("over")}
          @drop=${(event) => { event.preventDefault(); event.currentTarget.classList.remove("over"); host.dropOn(crew); }}>
          <span class="crew-name">${index < 9 ? html`<kbd>${index + 1}</kbd>` : ""}${crew.name}</span>
          <span class="crew-load">${icon("order")}${open} open</span>
          <span class="crew-seen muted">${crew.last_sync_at ? `seen ${distance(crew.last_sync_at, Date.now())}` : "no device seen"}</span>
        </button>
      </li>`;
    })}
  </ul>`;
}
