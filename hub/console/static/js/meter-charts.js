// The two charts of a meter: its register as a curve, its consumption as bars. What is estimated, missing or doubted has a
// pattern or a shape of its own, so that no meaning hangs on colour alone.

import { init } from "/static/vendor/echarts/echarts.js";
import { colour } from "/static/console/js/map-style.js";
import { moment, words } from "/static/console/js/words.js";

const FONT = "Inter, sans-serif";
const LINES = ["accent", "good", "warn"];
// [name, shape, colour] of readings that are not simply good
const DOUBTS = {
  estimated: ["Estimated", "triangle", "warn"],
  suspect: ["Suspect", "diamond", "danger"],
  invalid: ["Rejected", "rect", "ink-2"],
  flagged: ["Flagged by a rule", "pin", "held"],
  edited: ["Edited", "roundRect", "accent"],
};
const STRIPES = { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 6], rotation: -Math.PI / 4 };
const DOTS = { symbol: "circle", symbolSize: 0.8, dashArrayX: [[8, 8], [0, 8, 8, 0]], dashArrayY: [6, 0] };

function base(said) {
  const ink = colour("ink-2");
  const line = colour("line");
  return {
    animation: false,
    textStyle: { fontFamily: FONT },
    // our own sentence: the library's would recite every number
    aria: { enabled: true, label: { description: said } },
    grid: { left: 58, right: 18, top: 62, bottom: 32 },
    legend: { type: "plain", top: 0, left: 0, textStyle: { color: ink }, itemWidth: 18 },
    axis: { axisLine: { lineStyle: { color: line } }, axisLabel: { color: ink, hideOverlap: true }, splitLine: { lineStyle: { color: line } }, nameTextStyle: { color: ink, align: "left" } },
  };
}

/** What is doubtful about a reading: a key of DOUBTS, or null. */
export function doubt([, , quality, flags]) {
  if (quality !== "good") return quality in DOUBTS ? quality : "suspect";
  if (flags.some((flag) => flag.startsWith("vee:"))) return "flagged";
  return flags.includes("edited") ? "edited" : null;
}

/**
 * Draw registers into `element`. `curves`: as the API's register-curve has them; `marks`: [{at, text}] as upright lines;
 * `spans`: [{from, to, text}] as shaded stretches, of sequence numbers that never came.
 */
export function drawRegister(element, { curves, marks, spans, from, to, said }) {
  const chart = init(element, null, { renderer: "svg", height: 300 });
  const { axis, ...common } = base(said);
  const ink = colour("ink-2");
  const at = (point) => [Date.parse(point[0]), Number(point[1])];
  const lines = curves.map((curve, place) => ({
    name: curves.length > 1 ? words(curve.register) : "Register", type: "line", step: false, showSymbol: curve.points.length < 3,
    data: curve.points.filter((point) => !["suspect", "invalid"].includes(point[2])).map(at),
    lineStyle: { width: 2, type: place ? "dashed" : "solid", color: colour(LINES[place % LINES.length]) },
    itemStyle: { color: colour(LINES[place % LINES.length]) },
    ...(place === 0
      ? {
          markLine: { symbol: "none", label: { color: ink, formatter: (mark) => mark.data.name, position: "insideEndTop" }, lineStyle: { color: colour("good"), width: 1.5 }, data: marks.map((mark) => ({ name: mark.text, xAxis: Date.parse(mark.at) })) },
          markArea: { itemStyle: { color: colour("danger"), opacity: 0.12 }, label: { color: ink }, data: spans.map((span) => [{ name: span.text, xAxis: Date.parse(span.from) }, { xAxis: Date.parse(span.to) }]) },
        }
      : {}),
  }));
  const points = curves.flatMap((curve) => curve.points);
  // a value in another unit would press the register's course flat: what lies far off stands at the edge
  const course = lines.flatMap((line) => line.data.map(([, value]) => value));
  const [low, high] = course.length ? [Math.min(...course), Math.max(...course)] : [-Infinity, Infinity];
  const slack = course.length ? Math.max(high - low, 0.01) * 0.3 : 0;
  const near = ([instant, value]) => ({ value: [instant, Math.min(Math.max(value, low - slack), high + slack)], told: value });
  const doubted = Object.entries(DOUBTS)
    .map(([kind, [name, symbol, token]]) => ({ name, type: "scatter", symbol, symbolSize: 11, itemStyle: { color: colour(token) }, data: points.filter((point) => doubt(point) === kind).map(at).map(near) }))
    .filter((series) => series.data.length);
  chart.setOption({
    ...common,
    tooltip: { trigger: "item", confine: true, formatter: ({ seriesName, value, data }) => (value ? `${seriesName}<br>${moment(value[0])}: ${data.told ?? value[1]} ${curves[0]?.unit ?? ""}` : "") },
    xAxis: { ...axis, type: "time", min: from, max: to, splitLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: (instant) => moment(instant).replace(/, 00:00$/, "") } },
    yAxis: { ...axis, type: "value", scale: true, name: curves[0]?.unit ?? "as sent, unit unknown" },
    series: [...lines, ...doubted],
  });
  return chart;
}

/** Draw consumption into `element`. `items`: as the API has them, `label(item)`: how a step is called. */
export function drawUse(element, { items, label, said }) {
  const chart = init(element, null, { renderer: "svg", height: 300 });
  const { axis, ...common } = base(said);
  const top = Math.max(...items.map((item) => item.volume_m3 ?? 0), 0.001);
  const bars = (name, token, wanted, more = {}, height = (item) => item.volume_m3) => ({
    name, type: "bar", barGap: "-100%", barCategoryGap: "20%", itemStyle: { color: colour(token), ...more },
    data: items.map((item) => (wanted(item) ? height(item) : null)),
  });
  const series = [
    bars("Measured", "accent", (item) => item.volume_m3 !== null && !item.estimated && !item.missing),
    bars("Estimated", "warn", (item) => item.volume_m3 !== null && (item.estimated || item.missing), { decal: { ...DOTS, color: colour("surface") } }),
    // a whole column, striped: there is no figure that its height could tell
    bars("Missing", "sunken", (item) => item.volume_m3 === null, { decal: { ...STRIPES, color: colour("ink-2") } }, () => top),
  ].filter((one) => one.data.some((value) => value !== null));
  chart.setOption({
    ...common,
    tooltip: { trigger: "item", confine: true, formatter: ({ seriesName, name, value }) => (seriesName === "Missing" ? `${name}<br>Missing` : `${name}<br>${seriesName}: ${value} m³`) },
    xAxis: { ...axis, type: "category", data: items.map(label), splitLine: { show: false } },
    yAxis: { ...axis, type: "value", name: "m³" },
    series,
  });
  return chart;
}
