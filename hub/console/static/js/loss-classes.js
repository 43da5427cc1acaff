// Classes of loss for map and table, and the hatching that marks thin data: little measured is never shown as a plain colour.

import { colour } from "/static/console/js/map-style.js";

/** Below this share of measured time a figure is marked as thin. */
export const THIN = 0.9;

export const CLASSES = [
  { below: 10, token: "loss-0", label: "under 10 %" },
  { below: 20, token: "loss-1", label: "10 to 20 %" },
  { below: 30, token: "loss-2", label: "20 to 30 %" },
  { below: 40, token: "loss-3", label: "30 to 40 %" },
  { below: Infinity, token: "loss-4", label: "40 % and more" },
];

/** The class of a zone's loss; null when it is not known. */
export const classOf = (zone) => (zone.loss_pct === null ? null : CLASSES.find((one) => zone.loss_pct < one.below));

const isThin = (zone) => zone.loss_pct === null || zone.coverage.overall < THIN;

/** What a zone is filled with on the map: the name of one of `patterns`. */
export const patternOf = (zone) => `${isThin(zone) ? "thin" : "full"}-${classOf(zone)?.token ?? NONE}`;

/** The pattern of a zone of which nothing is known. */
export const NONE = "map-zone-fill";

/** Every fill of the map by name: each class plain, and hatched where little was measured. */
export function patterns() {
  const tokens = [NONE, ...CLASSES.map((one) => one.token)];
  return tokens.flatMap((token) => [
    [`full-${token}`, tile(token, false)],
    [`thin-${token}`, tile(token, true)],
  ]);
}

function tile(token, hatched, size = 24) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour(token);
  pen.fillRect(0, 0, size, size);
  if (hatched) hatch(pen, size);
  return pen.getImageData(0, 0, size, size);
}

function hatch(pen, size) {
  pen.strokeStyle = colour("ink-2");
  pen.globalAlpha = 0.5;
  pen.lineWidth = 2;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift - 2, size + 2);
    pen.lineTo(shift + size + 2, -2);
  }
  pen.stroke();
}
