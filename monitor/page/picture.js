// The pipeline as a picture: its stages from left to right, and the way back below.

import { h } from "./dom.js";
import { duration, grouped, rate } from "./format.js";

const MOST_DOTS = 32;

export function picture(sample) {
  const busy = sample.stages.some((stage) => stage.undos_per_second > 0);
  return h("section", { class: "card", "aria-label": "The stages" },
    h("ol", { class: "picture" },
      end("in", "producers", `${rate(sample.per_second.accepted)}/s accepted`),
      sample.stages.map((stage) => [box(stage, sample)]),
      end("out", "outcomes", `${rate(sample.per_second.done)}/s done`)),
    h("div", { class: `way-back${busy ? " lit" : ""}` },
      h("svg", { viewBox: "0 0 1000 22", preserveAspectRatio: "none", "aria-hidden": "true" },
        h("path", { d: "M990 2v8q0 4-4 4H14q-4 0-4-4V2" }),
        h("path", { d: "M4 9l6-7 6 7" })),
      h("p", null, busy
        ? `undos run: ${sample.stages.filter((stage) => stage.undos_per_second > 0).map((stage) => `${stage.name} ${rate(stage.undos_per_second)}/s`).join(", ")}`
        : "no undo runs")));
}

function end(kind, name, text) {
  return h("li", { class: `end ${kind}` }, h("strong", null, name), h("span", null, text));
}

function box(stage, sample) {
  const full = stage.capacity > 0 && stage.queued >= stage.capacity;
  const state = stage.health.state !== "up" ? stage.health.state : stage.paused || sample.paused ? "paused" : full ? "full" : "up";
  const share = stage.capacity > 0 ? Math.min(1, stage.queued / stage.capacity) : 0;
  return h("li", { class: `stage ${state}`, "data-key": stage.name },
    h("a", { class: "name", href: `#/${sample.p}/tasks?stage=${encodeURIComponent(stage.name)}` }, stage.name),
    h("span", { class: "state" }, { up: "", failing: "rebuilding", down: "down", paused: "paused", full: "queue full" }[state]),
    h("svg", { class: "queue", width: "100%", height: "10", role: "img", "aria-label": `${stage.queued} of ${stage.capacity} places in the queue are taken` },
      h("rect", { class: "room", width: "100%", height: "10", rx: "3" }),
      h("rect", { class: "taken", width: `${(share * 100).toFixed(1)}%`, height: "10", rx: "3" })),
    h("span", { class: "line" }, h("b", null, `${grouped(stage.queued)}/${grouped(stage.capacity)}`), " queued"),
    dots(stage),
    h("span", { class: "line" }, h("b", null, `${stage.workers_busy}/${stage.workers}`), stage.workers === stage.workers_target ? " busy" : ` busy, ${stage.workers_target} wanted`),
    h("span", { class: "line" }, h("b", null, rate(stage.per_second)), "/s", stage.rate_limit ? ` of ${stage.rate_limit.text}` : ""),
    h("span", { class: "line" }, "p99 ", h("b", null, duration(stage.work.p99_ns))));
}

function dots(stage) {
  const count = Math.max(stage.workers, stage.workers_target);
  const missing = stage.workers_target - stage.workers;
  if (count > MOST_DOTS) return null;
  const circles = [];
  for (let at = 0; at < count; at++) {
    const kind = at < stage.workers_busy ? "busy" : at < count - Math.max(0, missing) ? "idle" : "missing";
    circles.push(h("circle", { class: kind, cx: 6 + (at % 16) * 11, cy: 6 + Math.floor(at / 16) * 11, r: 4 }));
  }
  const rows = Math.ceil(count / 16);
  return h("svg", { class: "dots", width: Math.min(count, 16) * 11 + 1, height: rows * 11 + 1, role: "img", "aria-label": `${stage.workers_busy} of ${stage.workers} workers are busy` }, circles);
}
