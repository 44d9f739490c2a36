// Charts, each also as a table.

import { h } from "./dom.js";
import { clock, rate } from "./format.js";

const drawn = new Map();
const HEIGHT = 150;

// `state.asTable` has the names of those that are shown as tables.
export function chart(name, data, series, state) {
  const table = state.asTable.has(name);
  return h("figure", { "data-key": name },
    h("figcaption", null, h("span", null, name),
      h("button", { type: "button", class: "plain", "data-act": "as-table", "data-name": name, "aria-pressed": String(table) }, "as table")),
    table ? asTable(data, series) : h("div", { class: "plot", "data-keep": "", "data-key": "plot", "data-plot": name, role: "img", "aria-label": summary(name, series) }),
    h("ul", { class: "legend" }, series.map((line, at) => h("li", { class: line.tone ?? `c${at % 6}` }, line.name, " ", h("b", null, rate(last(line.values)))))));
}

const last = (values) => values.findLast((value) => value !== null);

function summary(name, series) {
  return `${name}: ${series.map((line) => `${line.name} ${rate(last(line.values))}`).join(", ")}`;
}

function times(data) {
  const { until, points, step_ms: step } = data;
  return Array.from({ length: points }, (_, at) => (until - (points - 1 - at) * step) / 1000);
}

// The newest first, and not more than one reads.
function asTable(data, series) {
  const all = times(data);
  const rows = all.map((_, at) => all.length - 1 - at).filter((at) => series.some((line) => line.values[at] !== null)).slice(0, 60);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values" }, h("table", null,
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "time"), series.map((line) => h("th", { scope: "col" }, line.name)))),
    h("tbody", null, rows.map((at) => h("tr", { "data-key": String(all[at]) },
      h("th", { scope: "row" }, clock(all[at] * 1000)), series.map((line) => h("td", null, rate(line.values[at]))))))));
}

// Draws what `chart` has left room for, after it is on the page.
export function draw(data, lines) {
  for (const [name, plot] of drawn) {
    if (!plot.root.isConnected) {
      plot.destroy();
      drawn.delete(name);
    }
  }
  if (!data) return;
  for (const place of document.querySelectorAll("[data-plot]")) {
    const name = place.dataset.plot;
    const series = lines(name);
    const values = [times(data), ...series.map((line) => line.values)];
    const old = drawn.get(name);
    if (old && old.batrun === shape(series) && place.contains(old.root)) {
      if (old.width !== place.clientWidth) old.setSize({ width: place.clientWidth, height: HEIGHT });
      old.setData(values);
      continue;
    }
    old?.destroy();
    place.replaceChildren();
    const plot = new uPlot(options(place, series), values, place);
    plot.batrun = shape(series);
    drawn.set(name, plot);
  }
}

export function forget() {
  for (const plot of drawn.values()) plot.destroy();
  drawn.clear();
}

const shape = (series) => series.map((line) => line.name).join("\n") + document.documentElement.dataset.theme;

function options(place, series) {
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: place.clientWidth || 300,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 5 } },
    scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 1, 0.01) * 1.1] } },
    axes: [{ ...axis, space: 70, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, ticks[1] - ticks[0] < 60 ? 8 : 5)) }, { ...axis, size: 46, values: (_, ticks) => ticks.map(rate) }],
    series: [{}, ...series.map((line, at) => ({
      label: line.name,
      stroke: colour(line.tone ? `--${line.tone}` : `--c${at % 6}`),
      width: 1.75,
      points: { show: false },
      spanGaps: false,
    }))],
  };
}
