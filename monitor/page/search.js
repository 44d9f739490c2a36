// The search box, what was found, and the final report.

import { h } from "./dom.js";
import { words } from "./tasks.js";

export function search(state) {
  const value = state.view === "search" ? (state.query.get("q") ?? "") : "";
  return h("form", { class: "search", role: "search", "data-form": "search" },
    h("label", null, h("span", { class: "hidden" }, "Search: a number, a key, the beginning of a label"),
      h("input", { id: "search", type: "search", name: "q", placeholder: "number, key or label  ( / )", maxlength: "200", autocomplete: "off", spellcheck: "false", value })));
}

export function found(sample, state) {
  const hits = state.found;
  if (!hits) return h("p", { class: "empty" }, state.error ?? "Looking.");
  return h("section", { class: "card", "aria-label": "Found" },
    h("h2", null, hits.hits.length === 0 ? "Nothing found" : "Found"),
    h("ul", { class: "hits" }, hits.hits.map((hit) => h("li", { "data-key": `${hit.where} ${hit.task}`, "data-row": hit.task },
      h("a", { href: hit.where === "journal" && hit.key ? `#/${sample.p}/journal?${new URLSearchParams({ q: hit.key })}` : `#/${sample.p}/task/${hit.task}` }, `task ${hit.task}`), " ", h("span", { class: "phase" }, words(hit.where)), " ", hit.text ?? hit.key ?? hit.label ?? ""))),
    h("p", { class: "note" }, hits.covered));
}

export function report(sample, state) {
  if (!sample.ended) {
    return h("section", { class: "card", "aria-label": "Drain" }, h("h2", null, "It drains"),
      h("p", null, `${sample.in_flight} tasks are in flight. The report comes once all of them have ended.`),
      sample.drain_left_ns ? h("p", null, "The rest is cancelled when its time is over.") : null);
  }
  if (!state.report) return h("p", { class: "empty" }, state.error ?? "Loading.");
  return h("section", { class: "card", "aria-label": "Report" }, h("h2", null, "Report"), h("pre", { tabindex: "0" }, state.report.text));
}
