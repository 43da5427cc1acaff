// Line charts of flows over days: drawn as SVG, described in words, and given as a table as well.

import { html } from "/static/vendor/lit/lit.js";
import { init } from "/static/vendor/echarts/echarts.js";
import { colour } from "/static/console/js/map-style.js";

const FONT = "Inter, sans-serif";

/**
 * Draw a chart into `element` and return it.
 * `lines`: [{name, token, values: [[day, number | null], …], dashed}], `marks`: [{day, text}] as upright lines,
 * `spans`: [{from, to, text}] as shaded stretches. Days are YYYY-MM-DD; `unit` is written at the axis.
 */
export function drawDays(element, { lines, marks = [], spans = [], unit, said }) {
  const chart = init(element, null, { renderer: "svg", height: 300 });
  const ink = colour("ink-2");
  const line = colour("line");
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: FONT },
    // our own sentence: the library's would recite every number
    aria: { enabled: true, label: { description: said } },
    grid: { left: 52, right: 18, top: 56, bottom: 56 },
    legend: { top: 0, left: 0, textStyle: { color: ink }, itemWidth: 18 },
    tooltip: { trigger: "axis", confine: true, valueFormatter: (value) => (value === null || value === undefined ? "–" : `${value.toFixed(2)} ${unit}`) },
    xAxis: { type: "time", axisLine: { lineStyle: { color: line } }, axisLabel: { color: ink, hideOverlap: true } },
    yAxis: { type: "value", name: unit, nameTextStyle: { color: ink, align: "left" }, axisLabel: { color: ink }, splitLine: { lineStyle: { color: line } } },
    dataZoom: [{ type: "slider", height: 18, bottom: 8, textStyle: { color: ink }, borderColor: line }],
    series: lines.map((one, place) => ({
      name: one.name,
      type: "line",
      data: one.values,
      showSymbol: false,
      connectNulls: false,
      lineStyle: { width: one.dashed ? 1.5 : 2, type: one.dashed ? "dashed" : "solid", color: colour(one.token) },
      itemStyle: { color: colour(one.token) },
      ...(place === 0
        ? {
            markLine: { symbol: "none", label: { color: ink, formatter: (at) => at.data.name, position: "insideEndTop" }, lineStyle: { color: colour("good"), width: 1.5 }, data: marks.map((mark) => ({ name: mark.text, xAxis: mark.day })) },
            markArea: { itemStyle: { color: colour("danger"), opacity: 0.1 }, label: { color: ink }, data: spans.map((span) => [{ name: span.text, xAxis: span.from }, { xAxis: span.to }]) },
          }
        : {}),
    })),
  });
  return chart;
}

/** Redraws whatever `draw()` makes when the theme or the width changes; returns how to stop that. */
export function keepDrawn(element, draw) {
  let chart = draw();
  const again = () => {
    chart.dispose();
    chart = draw();
  };
  const size = new ResizeObserver(() => chart.resize());
  size.observe(element);
  document.addEventListener("themechange", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  return () => {
    size.disconnect();
    document.removeEventListener("themechange", again);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", again);
    chart.dispose();
  };
}

/** The same figures as a table, folded away. */
export function asTable(caption, heads, rows) {
  return html`<details class="as-table"><summary>${caption} as a table</summary>
    <div class="table-wrap" role="region" aria-label=${caption} tabindex="0"><table>
      <thead><tr>${heads.map((head, place) => html`<th scope="col" class=${place ? "number" : ""}>${head}</th>`)}</tr></thead>
      <tbody>${rows.map(([first, ...rest]) => html`<tr><th scope="row">${first}</th>${rest.map((cell) => html`<td class="number">${cell}</td>`)}</tr>`)}</tbody>
    </table></div></details>`;
}

