// One task: what is known of it, its undos, and its timeline.

import { h } from "./dom.js";
import { clock, duration, moment, plural } from "./format.js";
import { named, words } from "./tasks.js";

// Run, undo and end differ by sign and word, not by colour alone.
const EVENTS = {
  accepted: ["●", "accepted"],
  queued: ["○", "queued for"],
  started: ["▶", "run"],
  finished: ["■", "finished"],
  attempt_ended: ["✕", "attempt ended in"],
  registered: ["+", "undo registered by"],
  rollback_began: ["↩", "rollback begins"],
  undo_started: ["◁", "undo runs in"],
  undone: ["✓", "undone in"],
  undo_failed: ["✕", "undo failed in"],
  ended: ["●", "ended"],
};
const FAILURES = new Set(["attempt_ended", "undo_failed", "rollback_began", "ended"]);

export function task(sample, state) {
  const detail = state.task;
  const id = state.taskId;
  const back = h("p", null, h("a", { href: `#/${sample.p}/tasks` }, "← tasks in flight"));
  if (!detail) return [back, h("p", { class: "empty" }, state.error ?? "Loading.")];
  const { view, outcome } = detail;
  const may = (action) => sample.access.actions.includes(action);
  const name = named(view ?? outcome ?? {});
  return [
    back,
    h("section", { class: "card", "aria-label": "The task" },
      h("div", { class: "bar" }, h("h2", null, `Task ${id}`, name ? ` “` : "", name, name ? "”" : ""),
        h("span", { class: `phase ${view?.phase ?? outcome?.end ?? detail.where}` }, view ? words(view.phase) : outcome ? words(outcome.end) : words(detail.where)),
        h("button", { type: "button", class: "plain", "data-act": "copy" }, "Copy as JSON"),
        h("button", { type: "button", class: "plain", "data-act": "copy-command" }, "Copy as command"),
        view && may("cancel") ? h("button", { type: "button", "data-act": "cancel-one", "data-task": id }, "Cancel") : null,
        detail.where === "stuck" && may("retry") ? h("button", { type: "button", "data-act": "retry", "data-task": id }, "Try again") : null,
        detail.where === "stuck" && may("resolve") ? h("button", { type: "button", "data-act": "resolve", "data-task": id }, "Resolve") : null),
      h("dl", null, facts(view, outcome).map(([term, value]) => h("div", { class: term === "outcome" ? "full" : false }, h("dt", null, term), h("dd", null, value))))),
    detail.undos?.length ? undos(detail) : null,
    detail.timeline ? timeline(detail.timeline, state) : h("p", { class: "note" }, "There is no timeline of this task. A recorder keeps those of running ones: Pipeline::recorder."),
  ];
}

function facts(view, outcome) {
  const facts = [];
  if (view) {
    facts.push(["stage", view.stage ?? "–"], ["attempt", view.attempt], ["age", duration(view.age_ns)]);
    if (view.worker !== null && view.worker !== undefined) facts.push(["worker", view.worker]);
    if (view.deadline_left_ns !== null && view.deadline_left_ns !== undefined) facts.push(["deadline", `in ${duration(view.deadline_left_ns)}`]);
    if (view.progress) facts.push(["progress", `${Math.round(view.progress.fraction * 100)} % ${view.progress.text}`]);
  }
  if (outcome) {
    facts.push(["ended", moment(outcome.at)], ["outcome", outcome.text]);
    if (outcome.stage) facts.push(["stage", outcome.stage]);
    if (outcome.rollback.time_ns) facts.push(["rollback", `${words(outcome.rollback.state)}, ${duration(outcome.rollback.time_ns)}`]);
  }
  return facts;
}

function undos(detail) {
  return h("section", { class: "card", "aria-label": "Undos" }, h("h2", null, "Undos, in the order in which they run"),
    h("table", { class: "wide" },
      h("thead", null, h("tr", null, ["", "stage", "undo", "state", "tries", "error"].map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, detail.undos.map((undo, at) => h("tr", { "data-key": String(at) },
        h("td", null, at + 1), h("td", { "data-label": "stage" }, undo.stage), h("td", { "data-label": "undo" }, h("code", null, undo.undo ?? "not shown")),
        h("td", { "data-label": "state" }, h("span", { class: `phase ${undo.state}` }, words(undo.state))), h("td", { "data-label": "tries" }, undo.tries ?? ""), h("td", { "data-label": "error" }, undo.error ?? ""))))));
}

function timeline(all, state) {
  const events = all.events.map((event, place) => ({ ...event, place }));
  const shown = state.onlyFailures ? events.filter((event) => FAILURES.has(event.event)) : events;
  const gaps = shown.map((event, at) => (at > 0 && event.at !== null && shown[at - 1].at !== null ? event.at - shown[at - 1].at : 0));
  const sorted = gaps.filter((gap) => gap > 0).toSorted((one, other) => one - other);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const items = [];
  shown.forEach((event, at) => {
    if (all.left_out > 0 && event.place === all.gap && !state.onlyFailures) items.push(h("li", { class: "left-out" }, `${plural(all.left_out, "event")} left out`));
    // Where nothing happened for long, the line is no longer.
    if (gaps[at] > 10 * median && gaps[at] >= 10) items.push(h("li", { class: "pause" }, duration(gaps[at] * 1e6)));
    const [sign, word] = EVENTS[event.event] ?? ["·", words(event.event)];
    const number = event.number === null || event.number === undefined ? "" : /undo|undone|registered/.test(event.event) ? `, undo ${event.number + 1}` : `, attempt ${event.number}`;
    items.push(h("li", { class: `event ${event.event}` },
      h("span", { class: "sign", "aria-hidden": "true" }, sign),
      h("span", { class: "what" }, word, " ", /rollback|ended$/.test(event.event) && event.event !== "attempt_ended" ? "" : h("b", null, event.stage ?? ""), number),
      h("span", { class: "when" }, event.at === null || event.at === undefined ? "" : `${clock(event.at)}.${String(Math.floor(event.at % 1000)).padStart(3, "0")}`)));
  });
  return h("section", { class: "card", "aria-label": "Timeline" },
    h("div", { class: "bar" }, h("h2", null, "Timeline"), h("label", { class: "check" }, h("input", { type: "checkbox", "data-act": "only-failures", checked: state.onlyFailures }), "only failures")),
    h("ol", { class: "timeline" }, items),
    all.recorded ? null : h("p", { class: "note" }, "Of the time before the rollback, only the undos are known. For the rest, give the pipeline a recorder: Pipeline::recorder."));
}
