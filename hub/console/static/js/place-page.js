// Account and place pages: the small map, the button for a new order, and a page that renews itself when its work changes.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import * as maplibre from "/static/vendor/maplibre-gl/maplibre-gl.mjs";
import { onChange } from "/static/console/js/live.js";
import { colour, frame, networkStyle } from "/static/console/js/map-style.js";
import "/static/console/js/new-order.js";

class PlaceMap extends LitElement {
  static properties = { lon: { type: Number }, lat: { type: Number }, label: {} };

  createRenderRoot() {
    return this;
  }

  async firstUpdated() {
    const [{ names }] = await Promise.all([frame(), document.fonts.load("16px Inter").catch(() => [])]);
    this.names = names;
    try {
      this.map = new maplibre.Map({
        container: this.querySelector(".place-map"), style: this.look(), center: [this.lon, this.lat], zoom: 16, attributionControl: false,
        fadeDuration: 0, dragRotate: false, interactive: true, cooperativeGestures: true,
      });
    } catch {
      this.querySelector(".place-map").textContent = `${this.lat.toFixed(6)}, ${this.lon.toFixed(6)}`;
      return;
    }
    this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    const repaint = () => this.map.setStyle(this.look(), { diff: false });
    document.addEventListener("themechange", repaint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  }

  look() {
    const style = networkStyle({ names: this.names });
    const here = { type: "Feature", geometry: { type: "Point", coordinates: [this.lon, this.lat] }, properties: {} };
    return {
      ...style,
      sources: { ...style.sources, here: { type: "geojson", data: here } },
      layers: [
        ...style.layers,
        {
          id: "here", type: "circle", source: "here",
          paint: { "circle-radius": 8, "circle-color": colour("accent"), "circle-stroke-color": colour("map-halo"), "circle-stroke-width": 3 },
        },
      ],
    };
  }

  render() {
    return html`<section class="place-map" aria-label="Map of ${this.label}"></section>`;
  }
}

customElements.define("place-map", PlaceMap);

// Server-made pages renew the parts that tell of work; the map and an open dialog stay as they are.
let asked = null;
async function renew() {
  asked = null;
  if (document.querySelector("dialog[open]")) return;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const heading of ["next", "before", "lines", "past", "who", "water"]) {
    const now = document.querySelector(`#main section[aria-labelledby=${heading}]`);
    const then = fresh.querySelector(`#main section[aria-labelledby=${heading}]`);
    if (now && then && !now.contains(document.activeElement)) now.replaceWith(document.importNode(then, true));
  }
  const band = fresh.querySelector("#main .band");
  if (band) document.querySelector("#main .band")?.replaceWith(document.importNode(band, true));
}

const { account, place } = document.querySelector("#main").dataset;
const shown = () => new Set([...document.querySelectorAll('#main a[href^="/?order="]')].map((link) => link.href.split("order=")[1]));
onChange(({ changes, reset }) => {
  const orders = shown();
  const mine = changes.some((change) => change.id === account || change.id === place || orders.has(change.id) || change.type === "billing_event");
  // an order that has just been opened here is not on the page yet: its account or place is told as changed too, or the next look finds it
  if (reset || mine || changes.some((change) => change.type === "work_order" && change.rev === 1)) asked ??= setTimeout(renew, 1500);
});
