// Tasks in flight: a list with filters that stand in the address, and what one can do with those shown.

import { h } from "./dom.js";
import { duration, grouped, plural } from "./format.js";

const PHASES = ["queued", "running", "cleaning_up", "stopping", "rolling_back"];
const AGES = [["", "any"], ["1000", "1 s"], ["10000", "10 s"], ["60000", "1 min"], ["600000", "10 min"], ["3600000", "1 h"]];

export const words = (phase) => String(phase).replaceAll("_", " ");
export const named = (task) => task.key ?? task.label ?? "";

export function tasks(sample, state) {
  const { query, list } = state;
  const may = sample.access.actions.includes("cancel") && !sample.ended;
  const select = (name, label, options) => h("label", null, label,
    h("select", { name, "data-filter": name }, options.map(([value, text]) => h("option", { value, selected: (query.get(name) ?? "") === value }, text))));
  const chosen = [...state.chosen];
  return h("section", { class: "card", "aria-label": "Tasks in flight" },
    h("div", { class: "bar" }, h("h2", null, "Tasks in flight"), list ? h("span", { class: "note" }, plural(list.total, "task")) : null),
    h("form", { class: "filters", "data-form": "filters" },
      select("phase", "phase", [["", "any"], ...PHASES.map((phase) => [phase, words(phase)])]),
      select("stage", "stage", [["", "any"], ...sample.stages.map((stage) => [stage.name, stage.name])]),
      select("older_ms", "older than", AGES),
      h("label", null, "label begins with", h("input", { name: "q", type: "search", value: query.get("q") ?? "", "data-filter": "q", maxlength: "64", autocomplete: "off" }))),
    may && list ? h("div", { class: "bulk" },
      h("button", { type: "button", "data-act": "cancel-chosen", disabled: chosen.length === 0 }, `Cancel ${plural(chosen.length, "chosen task")}`),
      h("button", { type: "button", "data-act": "cancel-all", disabled: list.total === 0 }, `Cancel all ${grouped(list.total)} shown by the filter`)) : null,
    list === null ? h("p", { class: "empty" }, state.error ?? "Loading.") : list.tasks.length === 0 ? h("p", { class: "empty" }, "No task.") : h("table", { class: "wide list" },
      h("thead", null, h("tr", null, may && h("th", { scope: "col" }, h("span", { class: "hidden" }, "choose")),
        ["task", "name", "phase", "stage", "attempt", "age", "deadline", "progress"].map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, list.tasks.map((task) => row(task, sample, state, may)))),
    list && (list.next || query.get("after")) ? h("nav", { class: "pages", "aria-label": "Pages" },
      query.get("after") ? h("button", { type: "button", "data-act": "first-page" }, "First page") : null,
      list.next ? h("button", { type: "button", "data-act": "next-page", "data-after": list.next }, "Next page") : null) : null);
}

function row(task, sample, state, may) {
  return h("tr", { "data-key": task.task, "data-row": task.task },
    may && h("td", null, h("input", { type: "checkbox", "data-choose": task.task, checked: state.chosen.has(task.task), "aria-label": `choose task ${task.task}` })),
    h("th", { scope: "row" }, h("a", { href: `#/${sample.p}/task/${task.task}` }, task.task)),
    h("td", { "data-label": "name" }, named(task)),
    h("td", { "data-label": "phase" }, h("span", { class: `phase ${task.phase}` }, words(task.phase))),
    h("td", { "data-label": "stage" }, task.stage ?? "–"),
    h("td", { "data-label": "attempt" }, task.attempt),
    h("td", { "data-label": "age" }, duration(task.age_ns)),
    h("td", { "data-label": "deadline" }, task.deadline_left_ns === null || task.deadline_left_ns === undefined ? "–" : task.deadline_left_ns === "0" ? "passed" : `in ${duration(task.deadline_left_ns)}`),
    h("td", { "data-label": "progress" }, task.progress ? `${Math.round(task.progress.fraction * 100)} %${task.progress.text ? `, ${task.progress.text}` : ""}` : ""));
}
