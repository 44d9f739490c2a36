// Tasks that ended other than done, grouped by what they have in common; and those that are stuck.

import { h } from "./dom.js";
import { duration, grouped, moment, plural } from "./format.js";
import { named, words } from "./tasks.js";

export function failures(sample, state) {
  const list = state.ended;
  if (!list) return h("p", { class: "empty" }, state.error ?? "Loading.");
  if (list.ended.length === 0) return h("p", { class: "empty" }, "Every task that ended is done.");
  const group = (one) => h("tr", { "data-key": `${one.stage ?? ""} ${one.error}` },
    h("td", { "data-label": "times" }, h("b", null, grouped(one.count))),
    h("td", { "data-label": "stage" }, one.stage ?? "–"),
    h("td", { "data-label": "error" }, one.error),
    h("td", { "data-label": "lately" }, spark(one.recent ?? [])),
    h("td", { "data-label": "first" }, moment(one.first_at)),
    h("td", { "data-label": "last" }, moment(one.last_at)));
  const row = (ended) => h("tr", { "data-key": String(ended.number), "data-row": ended.task },
    h("th", { scope: "row" }, h("a", { href: `#/${sample.p}/task/${ended.task}` }, ended.task)),
    h("td", { "data-label": "name" }, named(ended)),
    h("td", { "data-label": "at" }, moment(ended.at)),
    h("td", { "data-label": "outcome" }, h("span", { class: `phase ${ended.end}` }, words(ended.end))),
    h("td", { "data-label": "stage" }, ended.stage ?? "–"),
    h("td", { "data-label": "error" }, ended.error ?? ""),
    h("td", { "data-label": "rollback" }, rollback(ended.rollback)));
  return [
    h("section", { class: "card", "aria-label": "Failures by cause" }, h("h2", null, "By cause"),
      h("table", { class: "wide" }, head(["times", "stage", "error", "lately", "first", "last"]), h("tbody", null, list.groups.map(group)))),
    h("section", { class: "card", "aria-label": "Ended other than done" }, h("h2", null, "Ended other than done, the newest first"),
      h("table", { class: "wide list" }, head(["task", "name", "at", "outcome", "stage", "error", "rollback"]), h("tbody", null, list.ended.map(row))),
      list.next ? h("nav", { class: "pages", "aria-label": "Pages" }, h("button", { type: "button", "data-act": "older", "data-before": String(list.next) }, "Older")) : null),
  ];
}

export const head = (names) => h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name))));

export function rollback({ state, undone, left, time_ns: time }) {
  if (state === "nothing") return "nothing to undo";
  const took = time ? `, ${duration(time)}` : "";
  return state === "stuck" ? `stuck: ${undone} undone, ${plural(left, "undo", "undos")} left` : `${plural(undone, "undo", "undos")} run${took}`;
}

function spark(values) {
  const most = Math.max(1, ...values);
  const points = values.map((value, at) => `${(at * 80) / Math.max(1, values.length - 1)},${18 - (value / most) * 16}`).join(" ");
  return h("svg", { class: "spark", width: "80", height: "20", "aria-hidden": "true" }, h("polyline", { points }));
}

export function stuck(sample, state) {
  const list = state.stuck;
  if (!list) return h("p", { class: "empty" }, state.error ?? "Loading.");
  if (list.stuck.length === 0) return h("p", { class: "empty" }, "No task is stuck.");
  const may = (action) => sample.access.actions.includes(action) && !sample.ended;
  return list.stuck.map((one) => h("section", { class: "card", "data-key": one.task, "data-row": one.task, "aria-label": `Task ${one.task}` },
    h("div", { class: "bar" }, h("h2", null, h("a", { href: `#/${sample.p}/task/${one.task}` }, `Task ${one.task}`), named(one) ? ` “${named(one)}”` : ""),
      may("retry") ? h("button", { type: "button", "data-act": "retry", "data-task": one.task }, "Try again") : null,
      may("resolve") ? h("button", { type: "button", "data-act": "resolve", "data-task": one.task }, "Resolve") : null),
    h("p", null, one.text),
    h("table", { class: "wide" }, head(["", "stage", "undo that is left", "error"]),
      h("tbody", null, one.undos.map((undo, at) => h("tr", null, h("td", null, at + 1), h("td", { "data-label": "stage" }, undo.stage), h("td", { "data-label": "undo" }, h("code", null, undo.undo ?? "not shown")), h("td", { "data-label": "error" }, undo.error ?? "")))))));
}
