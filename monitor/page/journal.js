// The contents of a journal: finished tasks, the newest first, or the one with a key; and the processes that share it.

import { of } from "./api.js";
import { h } from "./dom.js";
import { duration, grouped, moment } from "./format.js";
import { head, rollback } from "./failures.js";
import { named, words } from "./tasks.js";

export function journal(sample, state) {
  const { past: list, query, error } = state;
  if (sample.journal === "none") return h("p", { class: "empty" }, "This pipeline has no journal.");
  const [q, before] = [query.get("q") ?? "", query.get("before")];
  return h("section", { class: "card", "aria-label": "Finished tasks" },
    h("div", { class: "bar" }, h("h2", null, q ? "The finished task with a key" : "Finished tasks, the newest first"), list?.place ? h("span", { class: "note" }, list.place) : null,
      list?.outcomes.length ? h("a", { href: `api/v1/${of(sample.p, "journal", "export")}${q ? `?${new URLSearchParams({ q })}` : ""}`, title: "10,000 at most, the newest first, as lines of JSON" }, "Export") : null),
    sample.access.values
      ? h("form", { class: "filters", "data-form": "filters" }, h("label", null, "with the key", h("input", { name: "q", type: "search", value: q, "data-filter": "q", maxlength: "200", autocomplete: "off", spellcheck: "false" })))
      : h("p", { class: "note" }, "Keys and outputs are hidden from you."),
    error ? h("p", { class: "bad", role: "status" }, error) : null,
    (list?.corrupt ?? []).map((text) => h("p", { class: "bad" }, `Damaged: ${text}`)),
    !list ? (error ? null : h("p", { class: "empty" }, "Loading."))
      : list.outcomes.length === 0 ? h("p", { class: "empty" }, q ? "No finished task that is kept has this key." : "No finished task is kept.")
      : h("table", { class: "wide list" }, head(["task", "name", "at", "outcome", "stage", "error", "rollback", q ? "output" : null].filter(Boolean)), h("tbody", null, list.outcomes.map((one) => row(one, sample, q)))),
    list && (list.next || before) ? h("nav", { class: "pages", "aria-label": "Pages" },
      before ? h("button", { type: "button", "data-act": "newest" }, "Newest") : null,
      list.next ? h("button", { type: "button", "data-act": "further", "data-before": list.next }, "Older") : null) : null);
}

function row(one, sample, q) {
  const to = one.key && !q ? `#/${sample.p}/journal?${new URLSearchParams({ q: one.key })}` : one.end === "done" ? null : `#/${sample.p}/task/${one.task}`;
  return h("tr", { "data-key": one.task, "data-row": one.task },
    h("th", { scope: "row" }, to ? h("a", { href: to }, one.task) : one.task),
    h("td", { "data-label": "name" }, named(one)),
    h("td", { "data-label": "at" }, moment(one.at)),
    h("td", { "data-label": "outcome" }, h("span", { class: `phase ${one.end}` }, words(one.end))),
    h("td", { "data-label": "stage" }, one.stage ?? "–"),
    h("td", { "data-label": "error" }, one.error ?? ""),
    h("td", { "data-label": "rollback" }, one.end === "done" ? "–" : rollback(one.rollback)),
    q ? h("td", { "data-label": "output" }, h("code", null, one.output ?? "–")) : null);
}

const STATES = { live: "alive", overdue: "silent: its lease has run out", left: "gone: it has ended", dead: "gone: its lease ran out" };
const stages = (list) => list.map((one) => `${one.name} v${one.version}`).join(" → ") || "none: it only submits";

export function nodes(sample, state) {
  const { cluster: all, error } = state;
  if (sample.journal !== "database") return h("p", { class: "empty" }, "Nobody shares a journal with this process.");
  if (!all) return h("p", { class: error ? "empty bad" : "empty" }, error ?? "Loading.");
  const count = (tasks) => (BigInt(tasks) < BigInt(all.counted_to) ? grouped(tasks) : `${grouped(tasks)} or more`);
  const row = (node) => h("tr", { "data-key": node.node, class: node.this ? "this" : false },
    h("th", { scope: "row" }, `node ${node.node}`),
    h("td", { "data-label": "name" }, node.name, node.this ? h("b", null, " (this process)") : null),
    h("td", { "data-label": "state" }, h("span", { class: `phase ${node.state}` }, STATES[node.state] ?? node.state)),
    h("td", { "data-label": "lease left" }, node.state === "live" ? `${duration(node.lease_left_ns)} of ${duration(node.lease_ns)}` : "–"),
    h("td", { "data-label": "tasks" }, count(node.tasks)),
    h("td", { "data-label": "waiting" }, grouped(node.queued)),
    h("td", { "data-label": "room" }, grouped(node.room)),
    h("td", { "data-label": "since" }, moment(node.began)),
    h("td", { "data-label": "stages" }, stages(node.stages)));
  const took = (one) => h("tr", { "data-key": `${one.node} ${one.from}` },
    h("th", { scope: "row" }, one.killed ? `node ${one.node} has taken over` : `node ${one.node} was given`),
    h("td", { "data-label": "tasks" }, grouped(one.tasks)),
    h("td", { "data-label": "from" }, `node ${one.from}`),
    h("td", { "data-label": "because" }, one.killed ? "its lease ran out" : "it has ended and left them to others"),
    h("td", { "data-label": "last" }, moment(one.at)),
    h("td", { "data-label": "name" }, one.name),
    h("td", { "data-label": "name of that one" }, one.from_name));
  const left = (one) => h("tr", { "data-key": JSON.stringify(one.stages) },
    h("td", { "data-label": "stages" }, one.stages.length ? stages(one.stages) : "any"),
    h("td", { "data-label": "tasks" }, count(one.tasks)),
    h("td", { "data-label": "of those stuck" }, count(one.stuck)));
  return [
    error ? h("p", { class: "bad", role: "status" }, error) : null,
    all.stranded.length === 0 ? null : h("section", { class: "card stranded", "aria-label": "Stranded tasks" },
      h("h2", { class: "bad" }, "Tasks that no process can go on with"),
      h("p", null, "No process that lives has all of their stages in these versions and this order. Start one that has."),
      h("table", { class: "wide" }, head(["stages", "tasks", "of those stuck"]), h("tbody", null, all.stranded.map(left)))),
    h("section", { class: "card", "aria-label": "Nodes" },
      h("div", { class: "bar" }, h("h2", null, "The processes that share the journal"), h("span", { class: "note" }, `${String(all.waiting) === "1" ? "1 task waits" : `${count(all.waiting)} tasks wait`} for a process with room`)),
      h("table", { class: "wide" }, head(["node", "name", "state", "lease left", "tasks", "waiting", "room", "since", "stages"]), h("tbody", null, all.nodes.map(row)))),
    h("section", { class: "card", "aria-label": "Taken over" }, h("h2", null, "Who has taken over whom"),
      all.takeovers.length === 0 ? h("p", { class: "note" }, "No process has taken tasks over from another one in the last 30 days.")
        : h("table", { class: "wide" }, head(["node", "tasks", "from", "because", "last", "name", "name of that one"]), h("tbody", null, all.takeovers.map(took)))),
  ];
}
