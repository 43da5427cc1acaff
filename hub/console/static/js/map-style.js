// The look of every map of the console: our own tiles and nothing from elsewhere, in the page's colours.
// Text needs no glyph files: MapLibre draws it from the web font that the pages have loaded.

import { get } from "/static/console/js/api.js";

const FONT = ["Inter"];
export const NOTHING = { type: "FeatureCollection", features: [] };
export const STATUS_SHAPES = {
  held: "square",
  ready: "ring",
  assigned: "disc",
  en_route: "triangle",
  on_site: "diamond",
  paused: "bars",
  completed: "disc",
  unable: "cross",
  cancelled: "ring",
  closed: "disc",
};

/** The present value of a colour token, as the map understands it: `light-dark()` resolved. */
export function colour(token) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** The picture of one status: its own shape and its own colour, so that neither alone has to carry the meaning. */
export function drawStatus(status, size = 52) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d");
  const middle = size / 2;
  const radius = size * 0.33;
  pen.lineJoin = "round";
  pen.fillStyle = colour(status);
  const outline = (draw) => {
    pen.strokeStyle = colour("map-halo");
    pen.lineWidth = size * 0.16;
    draw();
    pen.stroke();
    pen.fill();
  };
  const path = (points) => {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(middle + x * radius, middle + y * radius) : pen.moveTo(middle + x * radius, middle + y * radius)));
    pen.closePath();
  };
  const shapes = {
    square: () => path([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
    triangle: () => path([[0, -1.15], [1.15, 0.9], [-1.15, 0.9]]),
    diamond: () => path([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]),
    disc: () => { pen.beginPath(); pen.arc(middle, middle, radius, 0, 7); },
  };
  const shape = STATUS_SHAPES[status] ?? "disc";
  outline(shapes[shape] ?? shapes.disc);
  pen.fillStyle = pen.strokeStyle = colour("map-halo");
  if (shape === "ring") {
    pen.beginPath();
    pen.arc(middle, middle, radius * 0.45, 0, 7);
    pen.fill();
  } else if (shape === "bars") {
    pen.fillRect(middle - radius * 0.5, middle - radius * 0.5, radius * 0.35, radius);
    pen.fillRect(middle + radius * 0.15, middle - radius * 0.5, radius * 0.35, radius);
  } else if (shape === "cross") {
    pen.lineWidth = size * 0.07;
    pen.beginPath();
    pen.moveTo(middle - radius * 0.4, middle - radius * 0.4);
    pen.lineTo(middle + radius * 0.4, middle + radius * 0.4);
    pen.moveTo(middle + radius * 0.4, middle - radius * 0.4);
    pen.lineTo(middle - radius * 0.4, middle + radius * 0.4);
    pen.stroke();
  }
  return pen.getImageData(0, 0, size, size);
}

const tiles = (layer) => ({ type: "vector", tiles: [`${location.origin}/tiles/${layer}/{z}/{x}/{y}.mvt`], maxzoom: 16 });

/** Where the network lies and where the names of its zones stand; asked once for a page. */
export const frame = () => (frame.asked ??= get("/console/frame").catch(() => ({ bounds: null, names: NOTHING })));

/** Sources and layers of the network: land, zones, mains, service points. */
export function networkStyle({ names = NOTHING, zoneFill = true, points = true } = {}) {
  const layers = [{ id: "land", type: "background", paint: { "background-color": colour("map-land") } }];
  if (zoneFill)
    layers.push({
      id: "zone-fill", type: "fill", source: "zones", "source-layer": "zones",
      paint: { "fill-color": colour("map-zone-fill"), "fill-opacity": 0.75 },
    });
  layers.push(
    {
      id: "zone-edge", type: "line", source: "zones", "source-layer": "zones",
      paint: { "line-color": colour("map-zone"), "line-width": 1.2, "line-dasharray": [4, 3], "line-opacity": 0.8 },
    },
    {
      id: "mains", type: "line", source: "mains", "source-layer": "mains", layout: { "line-cap": "round", "line-join": "round" },
      paint: {
        "line-color": colour("map-main"),
        "line-width": [
          "interpolate", ["linear"], ["zoom"],
          11, ["interpolate", ["linear"], ["to-number", ["get", "diameter_mm"], 100], 80, 0.4, 400, 1.8],
          17, ["interpolate", ["linear"], ["to-number", ["get", "diameter_mm"], 100], 80, 2, 400, 6],
        ],
      },
    },
  );
  if (points)
    layers.push({
      id: "service-points", type: "circle", source: "service_points", "source-layer": "service_points", minzoom: 13.5,
      paint: {
        "circle-color": colour("map-point"),
        "circle-radius": ["interpolate", ["linear"], ["zoom"], 13.5, 1, 17, 4],
        "circle-opacity": 0.75,
      },
    });
  layers.push({
    id: "zone-name", type: "symbol", source: "names", maxzoom: 16,
    layout: { "text-field": ["coalesce", ["get", "name"], ["get", "code"]], "text-font": FONT, "text-size": 13, "text-max-width": 8 },
    paint: { "text-color": colour("map-label"), "text-halo-color": colour("map-halo"), "text-halo-width": 1.4 },
  });
  return {
    version: 8,
    sources: { zones: tiles("zones"), mains: tiles("mains"), service_points: tiles("service_points"), names: { type: "geojson", data: names } },
    layers,
  };
}

/** Sources and layers of the work: clusters, single orders by status, the chosen one. */
export function workStyle(data, chosen) {
  return {
    sources: {
      work: { type: "geojson", data, cluster: true, clusterRadius: 46, clusterMaxZoom: 17, promoteId: "id" },
      chosen: { type: "geojson", data: chosen },
    },
    layers: [
      {
        id: "chosen-ring", type: "circle", source: "chosen",
        paint: {
          "circle-radius": 17, "circle-color": colour("accent"), "circle-opacity": 0.18,
          "circle-stroke-color": colour("accent"), "circle-stroke-width": 2.5,
        },
      },
      {
        id: "clusters", type: "circle", source: "work", filter: ["has", "point_count"],
        paint: {
          "circle-color": colour("map-cluster"), "circle-stroke-color": colour("map-halo"), "circle-stroke-width": 3, "circle-stroke-opacity": 0.7,
          "circle-radius": ["interpolate", ["linear"], ["log10", ["get", "point_count"]], 0.3, 13, 2, 20, 4, 30],
        },
      },
      {
        id: "cluster-count", type: "symbol", source: "work", filter: ["has", "point_count"],
        layout: { "text-field": ["get", "point_count_abbreviated"], "text-font": FONT, "text-size": 12.5, "text-allow-overlap": true },
        paint: { "text-color": colour("on-cluster") },
      },
      {
        id: "orders", type: "symbol", source: "work", filter: ["!", ["has", "point_count"]],
        layout: { "icon-image": ["concat", "status-", ["get", "s"]], "icon-allow-overlap": true, "icon-ignore-placement": true },
      },
      {
        // the chosen order shows even where a cluster has swallowed it
        id: "chosen-order", type: "symbol", source: "chosen",
        layout: { "icon-image": ["concat", "status-", ["get", "s"]], "icon-allow-overlap": true, "icon-ignore-placement": true },
      },
    ],
  };
}
