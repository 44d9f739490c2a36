// The page: where one is, what is shown there, and who does what when something is pressed.

import { get, of } from "./api.js";
import { ACTIONS, say } from "./actions.js";
import { draw, forget } from "./charts.js";
import { command, copy } from "./copy.js";
import { h, show } from "./dom.js";
import { failures, stuck } from "./failures.js";
import { clock, duration } from "./format.js";
import { journal, nodes } from "./journal.js";
import { listen } from "./keys.js";
import { overview, problems } from "./overview.js";
import { found, report, search } from "./search.js";
import { Live } from "./stream.js";
import { task } from "./task.js";
import { tasks } from "./tasks.js";

const state = {
  all: null, at: "0", view: "overview", taskId: null, query: new URLSearchParams(),
  range: "5m", history: null, asTable: new Set(), list: null, chosen: new Set(),
  task: null, onlyFailures: false, ended: null, before: null, stuck: null, report: null, found: null, past: null, cluster: null, error: null,
  dismissed: new Set(),
};
let fetched = 0;
let asking = 0;
// Views that read a disk or a database ask seldom.
const SELDOM = { journal: 5_000, nodes: 5_000 };

const $ = (id) => document.getElementById(id);
const sampleNow = () => state.all?.pipelines.find((one) => one.p === state.at);

const live = new Live(
  (sample) => {
    state.all = sample;
    if (!sampleNow() && sample.pipelines.length) state.at = sample.pipelines[0].p;
    render();
    refresh(false);
  },
  () => state.all && head(),
);

// The address after #: /pipeline/view?filters.
function route() {
  const [path, query] = location.hash.slice(1).split("?");
  const [, at, view, id] = path.split("/").map(decodeURIComponent);
  state.at = at || state.all?.pipelines[0]?.p || "0";
  state.view = view || "overview";
  state.query = new URLSearchParams(query ?? "");
  state.taskId = id ?? null;
  Object.assign(state, { list: null, task: null, ended: null, before: null, stuck: null, report: null, found: null, past: null, cluster: null, error: null });
  state.chosen.clear();
  forget();
  render();
  refresh(true);
}

function go(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

// Asks for what the view needs besides the samples: at once, and then no more often than those come.
async function refresh(now) {
  const sample = sampleNow();
  if (!sample || (!now && (Date.now() - fetched < Math.max(SELDOM[state.view] ?? 0, 900 * Math.max(1, live.every)) || asking > 0))) return;
  fetched = Date.now();
  const { at, view, taskId, query } = state;
  const needs = {
    overview: async () => ({ history: await get(of(at, "history"), { range: state.range }) }),
    tasks: async () => ({ list: await get(of(at, "tasks"), { ...Object.fromEntries(query), limit: 50 }) }),
    task: async () => ({ task: await get(of(at, "tasks", taskId)) }),
    failures: async () => ({ ended: await get(of(at, "ended"), { before: state.before, limit: 100 }) }),
    stuck: async () => ({ stuck: await get(of(at, "stuck")) }),
    report: async () => (sample.ended ? { report: await get(of(at, "report")) } : {}),
    journal: async () => (sample.journal === "none" ? {} : { past: await get(of(at, "journal"), { ...Object.fromEntries(query), limit: 50 }) }),
    nodes: async () => (sample.journal === "database" ? { cluster: await get(of(at, "nodes")) } : {}),
    search: async () => ({ found: await get(of(at, "search"), { q: query.get("q") ?? "" }) }),
  }[view];
  if (!needs) return;
  asking++;
  try {
    const found = await needs();
    // One may have gone elsewhere meanwhile.
    if (state.at !== at || state.view !== view || state.taskId !== taskId) return;
    Object.assign(state, found, { error: null });
  } catch (error) {
    if (state.at !== at || state.view !== view) return;
    state.error = error.message;
    if (error.status === 404 && view === "task") state.task = null;
  } finally {
    asking--;
  }
  render();
}

const VIEWS = { overview, tasks, task, failures, stuck, report, journal, nodes, search: found };

function render() {
  const sample = sampleNow();
  if (!state.all) return;
  head();
  if (!sample) return show($("main"), h("p", { class: "empty" }, "There is no such pipeline."));
  document.title = `${sample.stuck > 0 ? `(${sample.stuck} stuck) ` : ""}${sample.name} – batrun`;
  show($("warnings"), problems(sample));
  show($("main"), tabs(sample), ...[(VIEWS[state.view] ?? overview)(sample, state)].flat());
  show($("foot"), h("p", null, `${sample.name} runs for ${duration(sample.uptime_ns)}. batrun ${state.all.version}. `,
    h("a", { href: "metrics" }, "metrics"), " ", h("a", { href: "api/v1/openapi.json" }, "API")));
  if (state.view === "overview") draw(state.history, lines);
}

// The lines of a chart by its name, as the overview gives them.
function lines(name) {
  const { pipeline, stages } = state.history;
  const by = (field) => stages.map((stage) => ({ name: stage.name, values: stage[field] }));
  return {
    "tasks a second": [{ name: "done", values: pipeline.done }, { name: "failed", values: pipeline.failed, tone: "bad" }],
    "queued, by stage": by("queued"),
    "work, p99 in ms, by stage": by("work_p99_ms"),
    "wait, p99 in ms, by stage": by("wait_p99_ms"),
  }[name] ?? [];
}

function head() {
  const [kind, text] = live.state;
  const shownOnes = state.all.pipelines.filter((one) => !state.dismissed.has(one.p));
  show($("top"),
    h("a", { class: "brand", href: `#/${state.at}/overview` }, "batrun"),
    h("nav", { "aria-label": "Pipelines", class: "pipelines" }, shownOnes.map((one) =>
      h("span", { "data-key": one.p, class: `pipeline${one.ended ? " over" : ""}` },
        h("a", { href: `#/${one.p}/overview`, "aria-current": one.p === state.at ? "page" : false, title: one.health.text }, h("i", { class: one.ended ? "over" : one.health.ready ? "ok" : "bad" }), one.name),
        one.ended && shownOnes.length > 1 ? h("button", { type: "button", class: "plain", "data-act": "dismiss", "data-p": one.p, "aria-label": `Dismiss ${one.name}` }, "×") : null))),
    search(state),
    h("div", { class: "settings" },
      h("span", { class: `live ${kind}`, role: "status" }, h("i", null), text),
      h("time", { title: "the server's time" }, clock(state.all.now)),
      h("label", null, h("span", { class: "hidden" }, "New numbers every"), h("select", { "data-set": "every" }, [[1, "1 s"], [2, "2 s"], [5, "5 s"], [10, "10 s"], [30, "30 s"], [0, "paused"]].map(([value, name]) => h("option", { value, selected: live.every === value }, name)))),
      h("label", null, h("span", { class: "hidden" }, "Colours"), h("select", { "data-set": "theme" }, ["system", "light", "dark"].map((name) => h("option", { value: name, selected: theme() === name }, name)))),
      h("button", { type: "button", class: "plain", "data-act": "help", "aria-label": "Keys" }, "?")));
}

function tabs(sample) {
  const may = (action) => sample.access.actions.includes(action) && !sample.ended;
  const bad = BigInt(sample.counts.failed) + BigInt(sample.counts.timed_out);
  const tab = (view, text) => h("a", { href: `#/${sample.p}/${view}`, "aria-current": state.view === view ? "page" : false }, text);
  return h("div", { class: "bar views" },
    h("h1", { class: "hidden" }, `${sample.name}: ${state.view}`),
    h("nav", { "aria-label": "Views" }, tab("overview", "Overview"), tab("tasks", `Tasks ${sample.in_flight}`), tab("failures", `Failures ${bad}`), tab("stuck", `Stuck ${sample.stuck}`), sample.journal === "none" ? null : tab("journal", "Journal"), sample.journal === "database" ? tab("nodes", "Nodes") : null, sample.ended || sample.draining ? tab("report", "Report") : null),
    h("div", { class: "acts" },
      sample.paused ? may("resume") && h("button", { type: "button", "data-act": "resume" }, "Resume") : may("pause") && h("button", { type: "button", "data-act": "pause" }, "Pause"),
      may("drain") && !sample.draining ? h("button", { type: "button", "data-act": "drain" }, "Drain…") : null,
      may("abort") ? h("button", { type: "button", class: "danger", "data-act": "abort" }, "Abort…") : null));
}

function theme() {
  return localStorage.getItem("batrun.theme") ?? "system";
}

function paint() {
  document.documentElement.dataset.theme = theme();
  forget();
}

// These buttons change only what is shown.
const LOCAL = {
  range: (data) => Object.assign(state, { range: data.range, history: null }),
  "as-table": (data) => (state.asTable.delete(data.name) ? null : state.asTable.add(data.name)),
  "only-failures": () => (state.onlyFailures = !state.onlyFailures),
  dismiss(data) {
    state.dismissed.add(data.p);
    const left = state.all.pipelines.find((one) => !state.dismissed.has(one.p));
    if (data.p === state.at && left) go(`#/${left.p}/overview`);
  },
  older: (data) => Object.assign(state, { before: data.before, ended: null }),
  "next-page": (data) => filter("after", data.after),
  "first-page": () => filter("after", ""),
  further: (data) => filter("before", data.before),
  newest: () => filter("before", ""),
  copy: () => copy(JSON.stringify(state.task, null, 2)),
  "copy-command": () => copy(command(new URL(`api/v1/${of(state.at, "tasks", state.taskId)}`, location.href).href)),
  help: () => say("keys: / search, j and k next and previous row, enter opens it, p pauses what is shown, g o t f s overview, tasks, failures, stuck, g j n journal, nodes, esc back"),
};

function filter(name, value) {
  const query = new URLSearchParams(state.query);
  if (value === "") query.delete(name);
  else query.set(name, value);
  if (name !== "after") query.delete("after");
  if (name !== "before") query.delete("before");
  const tail = query.size ? `?${query}` : "";
  go(`#/${state.at}/${state.view}${tail}`);
}

document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("[data-act]");
  if (!pressed || pressed.disabled) return;
  const { act } = pressed.dataset;
  if (LOCAL[act]) {
    await LOCAL[act](pressed.dataset);
    render();
    return refresh(true);
  }
  const sample = sampleNow();
  if (!sample || !ACTIONS[act]) return;
  await ACTIONS[act](sample, state, pressed.dataset);
  refresh(true);
  if (live.every === 0) live.once();
});

document.addEventListener("change", (event) => {
  const { dataset, value, checked } = event.target;
  if (dataset.set === "every") live.set(Number(value));
  if (dataset.set === "theme") {
    localStorage.setItem("batrun.theme", value);
    paint();
    render();
  }
  if (dataset.filter) filter(dataset.filter, value);
  if (dataset.choose) {
    if (checked) state.chosen.add(dataset.choose);
    else state.chosen.delete(dataset.choose);
    render();
  }
});

document.addEventListener("submit", (event) => {
  const { form } = event.target.dataset;
  if (!form) return;
  event.preventDefault();
  if (form === "search") {
    const q = new FormData(event.target).get("q").trim();
    if (q) go(`#/${state.at}/search?${new URLSearchParams({ q })}`);
  }
});

window.addEventListener("hashchange", route);
window.addEventListener("resize", () => state.view === "overview" && draw(state.history, lines));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forget();
  render();
});
listen({ go: (view) => go(`#/${state.at}/${view}`), live, render });
paint();
route();
