// The first page: the picture, the numbers, the stages as a table with their actions, and the charts.

import { h } from "./dom.js";
import { duration, grouped, rate } from "./format.js";
import { picture } from "./picture.js";
import { chart } from "./charts.js";

export function overview(sample, state) {
  return [
    picture(sample),
    numbers(sample),
    sample.stages.length ? stages(sample) : null,
    history(sample, state),
  ];
}

function numbers(sample) {
  const { counts } = sample;
  const at = sample.p;
  const tile = (name, value, note, href, tone) =>
    h(href ? "a" : "div", { class: `tile${tone ? ` ${tone}` : ""}`, href: href ?? false },
      h("span", { class: "label" }, name), h("strong", { "data-number": name, class: value.length > 9 ? "long" : false }, value), h("span", { class: "note" }, note ?? ""));
  const refused = Object.entries(sample.refused).filter(([, count]) => count !== "0");
  const zero = (count, tone) => (count === "0" || count === 0 ? null : tone);
  return h("section", { class: "tiles", "aria-label": "Numbers" },
    tile("in flight", grouped(sample.in_flight), `of ${grouped(sample.in_flight_limit)}`, `#/${at}/tasks`),
    tile("accepted", grouped(counts.accepted), `${rate(sample.per_second.accepted)}/s`),
    tile("done", grouped(counts.done), `${rate(sample.per_second.done)}/s`),
    tile("failed", grouped(counts.failed), `${rate(sample.per_second.failed)}/s`, `#/${at}/failures`, zero(counts.failed, "bad")),
    tile("timed out", grouped(counts.timed_out), "", `#/${at}/failures`, zero(counts.timed_out, "bad")),
    tile("cancelled", grouped(counts.cancelled), "", `#/${at}/failures`),
    tile("stuck", grouped(sample.stuck), `of ${grouped(sample.stuck_limit)}`, `#/${at}/stuck`, zero(sample.stuck, "bad")),
    refused.length ? tile("refused", grouped(refused.map(([, count]) => BigInt(count)).reduce((one, other) => one + other, 0n)),
      refused.map(([why, count]) => `${grouped(count)} ${why}`).join(", "), null, "warn") : null,
    counts.taken_back !== "0" ? tile("taken back", grouped(counts.taken_back)) : null,
    counts.suspended !== "0" ? tile("suspended", grouped(counts.suspended), "", null, "warn") : null);
}

function stages(sample) {
  const may = (action) => sample.access.actions.includes(action) && !sample.ended;
  const acts = ["pause", "resume", "resize", "rate"].some(may);
  const button = (action, text, stage) => may(action) && h("button", { type: "button", "data-act": `stage-${action}`, "data-stage": stage.name, "aria-label": `${text} ${stage.name}` }, text);
  const row = (stage) => h("tr", { "data-key": stage.name },
    h("th", { scope: "row" }, stage.name),
    h("td", { "data-label": "queued" }, `${grouped(stage.queued)}/${grouped(stage.capacity)}`),
    h("td", { "data-label": "oldest" }, duration(stage.oldest_queued_ns)),
    h("td", { "data-label": "busy" }, `${grouped(stage.workers_busy)}/${grouped(stage.workers)}`),
    h("td", { "data-label": "per second" }, rate(stage.per_second)),
    h("td", { "data-label": "wait p50 / p99" }, `${duration(stage.wait.p50_ns)} / ${duration(stage.wait.p99_ns)}`),
    h("td", { "data-label": "work p50 / p99" }, `${duration(stage.work.p50_ns)} / ${duration(stage.work.p99_ns)}`),
    h("td", { "data-label": "finished" }, grouped(stage.counts.finished ?? "0")),
    h("td", { "data-label": "failed" }, grouped(stage.counts.failed ?? "0")),
    h("td", { "data-label": "retried" }, grouped(stage.counts.retried ?? stage.counts.retries ?? "0")),
    acts && h("td", { class: "acts" },
      stage.paused ? button("resume", "Resume", stage) : button("pause", "Pause", stage),
      button("resize", "Workers", stage), button("rate", "Rate", stage)));
  const heads = ["stage", "queued", "oldest", "busy", "per second", "wait p50 / p99", "work p50 / p99", "finished", "failed", "retried"];
  return h("section", { class: "card", "aria-label": "The stages, as a table" },
    h("table", { class: "wide" },
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)), acts && h("th", { scope: "col" }, "actions"))),
      h("tbody", null, sample.stages.map(row))));
}

const RANGES = [["5m", "5 minutes"], ["1h", "1 hour"], ["24h", "24 hours"]];

function history(sample, state) {
  const { range, history: data } = state;
  const choice = RANGES.map(([name, text]) => h("button", { type: "button", "data-act": "range", "data-range": name, "aria-pressed": String(range === name) }, text));
  const stagesOf = (field) => (data ? data.stages.map((stage) => ({ name: stage.name, values: stage[field] })) : []);
  const own = (field) => (data ? data.pipeline[field] : []);
  return h("section", { class: "card", "aria-label": "History" },
    h("div", { class: "bar" }, h("h2", null, "History"), h("div", { class: "choice", role: "group", "aria-label": "Time shown" }, choice)),
    data === null ? h("p", { class: "empty" }, "Not there yet.") : h("div", { class: "charts" },
      chart("tasks a second", data, [{ name: "done", values: own("done") }, { name: "failed", values: own("failed"), tone: "bad" }], state),
      chart("queued, by stage", data, stagesOf("queued"), state),
      chart("work, p99 in ms, by stage", data, stagesOf("work_p99_ms"), state),
      chart("wait, p99 in ms, by stage", data, stagesOf("wait_p99_ms"), state)));
}

export function problems(sample) {
  return h("ul", { class: "problems" }, sample.warnings.slice(0, 5).map((warning) =>
    h("li", { "data-key": `${warning.code} ${warning.stage ?? ""}`, class: warning.code },
      h("a", { href: place(sample, warning) }, warning.text))));
}

function place(sample, warning) {
  const view = { stuck: "stuck", failures: "failures", tasks: "tasks", nodes: "nodes" }[warning.view] ?? "overview";
  const stage = view === "tasks" && warning.stage ? `?stage=${encodeURIComponent(warning.stage)}` : "";
  return `#/${sample.p}/${view}${stage}`;
}
