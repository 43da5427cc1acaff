// The map of the work page. It says what a person pointed at ("order-chosen", "place-clicked"); everything on it is also in the list.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import * as maplibre from "/static/vendor/maplibre-gl/maplibre-gl.mjs";
import { NOTHING, STATUS_SHAPES, drawStatus, frame, networkStyle, workStyle } from "/static/console/js/map-style.js";
import { STATUSES, statusChip, words } from "/static/console/js/words.js";

const LOAD_LIMIT_MS = 10_000;
const SAME_PLACE_ZOOM = 17;

class WorkMap extends LitElement {
  static properties = { stack: { state: true }, trouble: { state: true } };

  constructor() {
    super();
    this.data = NOTHING;
    this.chosen = NOTHING;
    this.stack = null;
    this.trouble = "";
    this.ready = new Promise((resolve) => (this.isReady = resolve));
  }

  createRenderRoot() {
    return this;
  }

  async firstUpdated() {
    const [{ bounds, names }] = await Promise.all([
      frame(),
      document.fonts.load("16px Inter").catch(() => []),
    ]);
    this.names = names;
    const late = setTimeout(() => (this.trouble = "The map has not started yet. The list has all the work."), LOAD_LIMIT_MS);
    try {
      this.map = new maplibre.Map({
        container: this.querySelector(".map-canvas"),
        style: this.style_(),
        ...(bounds ? { bounds, fitBoundsOptions: { padding: 32 } } : { center: [0, 0], zoom: 2 }),
        attributionControl: false,
        fadeDuration: 0,
        dragRotate: false,
        pitchWithRotate: false,
        maxZoom: 20,
      });
    } catch {
      clearTimeout(late);
      this.trouble = "This browser cannot draw the map. The list has all the work.";
      return;
    }
    this.map.touchZoomRotate.disableRotation();
    this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    this.map.addControl(new maplibre.ScaleControl({ maxWidth: 110 }), "bottom-right");
    this.map.on("style.load", () => this.addImages());
    this.map.on("error", (event) => console.warn("map:", event.error?.message ?? event));
    this.map.once("load", () => {
      clearTimeout(late);
      this.trouble = "";
      this.dataset.state = "loaded";
      this.isReady();
    });
    this.map.once("idle", () => (this.dataset.state = "idle"));
    // the order panel takes room from the map: as long as nobody has moved it, it keeps showing the whole network
    this.map.on("movestart", (event) => (this.moved ||= Boolean(event.originalEvent)));
    this.map.on("resize", () => bounds && !this.moved && this.map.fitBounds(bounds, { padding: 32, duration: 0 }));
    this.map.on("click", (event) => this.clicked(event));
    for (const layer of ["orders", "clusters"]) {
      this.map.on("mouseenter", layer, () => (this.map.getCanvas().style.cursor = "pointer"));
      this.map.on("mouseleave", layer, () => (this.map.getCanvas().style.cursor = ""));
    }
    document.addEventListener("themechange", this.repaint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.repaint);
  }

  disconnectedCallback() {
    document.removeEventListener("themechange", this.repaint);
    this.map?.remove();
    super.disconnectedCallback();
  }

  style_() {
    const network = networkStyle({ names: this.names });
    const work = workStyle(this.data, this.chosen);
    this.drawn = this.data;
    return { ...network, sources: { ...network.sources, ...work.sources }, layers: [...network.layers, ...work.layers] };
  }

  addImages() {
    for (const status of Object.keys(STATUS_SHAPES)) {
      const name = `status-${status}`;
      if (this.map.hasImage(name)) this.map.removeImage(name);
      this.map.addImage(name, drawStatus(status), { pixelRatio: 2 });
    }
  }

  repaint = () => {
    if (!this.map) return;
    this.map.setStyle(this.style_(), { diff: false });
  };

  /** Show the orders of a GeoJSON address. The map's worker fetches and clusters them: the page itself stays quick. */
  async show(address) {
    this.data = address;
    await this.ready;
    if (this.drawn !== address) this.map.getSource("work")?.setData(address);
    this.drawn = address;
    this.map.once("idle", () => (this.dataset.shown = address));
    this.map.triggerRepaint();
  }

  /** Ring an order, and bring it into view when it is not; null rings none. */
  async choose(order) {
    const place = order?.position;
    this.chosen = place ? { type: "Feature", geometry: { type: "Point", coordinates: place }, properties: { s: order.status } } : NOTHING;
    await this.ready;
    this.map.getSource("chosen")?.setData(this.chosen);
    if (!place) return;
    if (!this.map.getBounds().contains(place)) this.map.easeTo({ center: place, zoom: Math.max(this.map.getZoom(), 14.5) });
  }

  /** Put keyboard focus on the map: arrow keys move it, plus and minus zoom. */
  focusMap() {
    this.map?.getCanvas().focus();
  }

  async clicked(event) {
    const around = [[event.point.x - 6, event.point.y - 6], [event.point.x + 6, event.point.y + 6]];
    const [hit] = this.map.queryRenderedFeatures(around, { layers: ["orders", "clusters"] });
    this.stack = null;
    if (!hit) {
      this.dispatchEvent(new CustomEvent("place-clicked", { bubbles: true, detail: event.lngLat }));
    } else if (hit.properties.point_count) {
      await this.open(hit);
    } else {
      this.say(hit.properties.id);
    }
  }

  /** A cluster either opens by zooming in, or, where its orders lie on one spot, as a list. */
  async open(hit) {
    const source = this.map.getSource("work");
    const zoom = await source.getClusterExpansionZoom(hit.properties.cluster_id);
    if (zoom <= SAME_PLACE_ZOOM) {
      this.map.easeTo({ center: hit.geometry.coordinates, zoom: zoom + 0.2 });
      return;
    }
    const leaves = await source.getClusterLeaves(hit.properties.cluster_id, 50, 0);
    this.stack = leaves.map((leaf) => leaf.properties);
    await this.updateComplete;
    this.querySelector(".stack button")?.focus();
  }

  say(id) {
    this.stack = null;
    this.dispatchEvent(new CustomEvent("order-chosen", { bubbles: true, detail: id }));
  }

  render() {
    return html`<section class="map" aria-label="Map of the work">
      <div class="map-canvas"></div>
      ${this.trouble ? html`<p class="map-trouble notice">${this.trouble}</p>` : ""}
      ${this.stack
        ? html`<div class="stack card" @keydown=${(e) => e.key === "Escape" && (this.stack = null)}>
            <header><h2>${this.stack.length} orders here</h2>
              <button class="button quiet" @click=${() => (this.stack = null)}>Close</button></header>
            <ul>${this.stack.map((one) => html`<li><button class="stack-item" @click=${() => this.say(one.id)}>
              <span>${words(one.t)} <span class="muted">${one.n}</span></span>${statusChip(one.s)}</button></li>`)}</ul>
          </div>`
        : ""}
      <details class="legend"><summary>Key</summary>
        <ul>${["held", "ready", "assigned", "en_route", "on_site", "paused"].map((status) => html`<li>
          <span class="legend-mark ${STATUS_SHAPES[status]} ${status}"></span>${STATUSES[status]}</li>`)}</ul>
      </details>
    </section>`;
  }
}

customElements.define("work-map", WorkMap);
