// Actions, each after a question.

import { h, show } from "./dom.js";
import { of, post } from "./api.js";
import { plural } from "./format.js";

// Asks, and resolves to the form's values, or to null. `fields` are [name, label, attributes].
export function ask(title, text, fields, yes) {
  const dialog = document.createElement("dialog");
  show(dialog,
    h("h2", { id: "asked" }, title),
    text ? h("p", null, text) : null,
    h("form", null,
      fields.map(([name, label, attributes]) => h("label", null, label, h("input", { name, autocomplete: "off", ...attributes }))),
      h("p", { class: "bad", role: "alert" }),
      h("div", { class: "buttons" }, h("button", { type: "button", "data-no": "" }, "Leave it"), h("button", { type: "submit", class: "go" }, yes))));
  dialog.setAttribute("aria-labelledby", "asked");
  document.body.append(dialog);
  return new Promise((resolve) => {
    const end = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      end(Object.fromEntries(new FormData(event.target)));
    });
    dialog.querySelector("[data-no]").addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", () => end(null));
    dialog.showModal();
  });
}

let timer = null;

// Says what came of something, for a while.
export function say(text, bad = false) {
  let place = document.getElementById("said");
  if (!place) {
    place = h("div", { id: "said", role: "status" });
    document.body.append(place);
  }
  show(place, h("p", { class: bad ? "bad" : "" }, text));
  clearTimeout(timer);
  timer = setTimeout(() => place.remove(), 8000);
}

async function send(path, body, done) {
  try {
    const answer = await post(path, body);
    say(typeof done === "function" ? done(answer) : done);
    return true;
  } catch (error) {
    say(error.message, true);
    return error;
  }
}

const tasksCancelled = (answer) => `${plural(answer.cancelled, "task")} cancelled${answer.refused ? `, ${answer.refused} had ended` : ""}`;

// `sample` is the pipeline's, `state` has what is shown.
export const ACTIONS = {
  pause: (sample) => send(of(sample.p, "pause"), {}, "paused: no stage starts work on a task"),
  resume: (sample) => send(of(sample.p, "resume"), {}, "resumed"),
  async drain(sample) {
    const asked = await ask(`Drain ${sample.name}?`, "It accepts no more tasks. Those that it has go on for the time that you give; any that are left then are cancelled, and their undos run.",
      [["grace", "seconds (empty: without limit)", { type: "number", min: "0", max: "86400" }], ["name", `type the pipeline's name: ${sample.name}`, { required: true, spellcheck: "false" }]], "Drain");
    if (asked) await send(of(sample.p, "drain"), { grace_seconds: asked.grace === "" ? null : Number(asked.grace), name: asked.name }, "it drains");
  },
  async abort(sample) {
    const asked = await ask(`Abort ${sample.name}?`, "It accepts no more tasks. Every task is cancelled now, and their undos run.",
      [["name", `type the pipeline's name: ${sample.name}`, { required: true, spellcheck: "false" }]], "Abort");
    if (asked) await send(of(sample.p, "abort"), { name: asked.name }, "every task is cancelled");
  },
  "stage-pause": (sample, state, data) => send(of(sample.p, "stages", data.stage, "pause"), {}, `${data.stage} is paused`),
  "stage-resume": (sample, state, data) => send(of(sample.p, "stages", data.stage, "resume"), {}, `${data.stage} goes on`),
  async "stage-resize"(sample, state, data) {
    const stage = sample.stages.find((one) => one.name === data.stage);
    const asked = await ask(`Workers of ${data.stage}`, "Busy ones finish first.", [["workers", "workers", { type: "number", min: "1", max: "100000", required: true, value: String(stage?.workers_target ?? 1) }]], "Resize");
    if (asked) await send(of(sample.p, "stages", data.stage, "workers"), { workers: Number(asked.workers) }, `${data.stage} is to have ${plural(asked.workers, "worker")}`);
  },
  async "stage-rate"(sample, state, data) {
    const stage = sample.stages.find((one) => one.name === data.stage);
    const asked = await ask(`Rate of ${data.stage}`, "Attempts that may start, at most.", [["rate", "per second (empty: without limit)", { type: "number", min: "0.001", step: "any", value: stage?.rate_limit ? String(stage.rate_limit.per_second) : "" }]], "Set");
    if (asked) await send(of(sample.p, "stages", data.stage, "rate"), { per_second: asked.rate === "" ? null : Number(asked.rate) }, asked.rate === "" ? `${data.stage} has no limit` : `${data.stage} starts at most ${asked.rate} a second`);
  },
  async "cancel-one"(sample, state, data) {
    if (await ask(`Cancel task ${data.task}?`, "It stops, and its undos run.", [], "Cancel the task")) await send(of(sample.p, "tasks", "cancel"), { tasks: [data.task] }, tasksCancelled);
  },
  async "cancel-chosen"(sample, state) {
    const chosen = [...state.chosen];
    if (!(await ask(`Cancel ${plural(chosen.length, "task")}?`, "They stop, and their undos run.", [], "Cancel them"))) return;
    if ((await send(of(sample.p, "tasks", "cancel"), { tasks: chosen }, tasksCancelled)) === true) state.chosen.clear();
  },
  async "cancel-all"(sample, state) {
    const filter = Object.fromEntries(["phase", "stage", "older_ms", "q"].map((name) => [name, state.query.get(name)]).filter(([, value]) => value));
    let count = state.list.total;
    for (;;) {
      const asked = await ask(`Cancel ${plural(count, "task")}?`, `All that the filter takes now${count > 1000 ? ", at most 1,000 at once" : ""}. They stop, and their undos run.`, [], "Cancel them");
      if (!asked) return;
      const result = await send(of(sample.p, "tasks", "cancel"), { filter, count }, tasksCancelled);
      // There are more, or fewer, by now: it is asked again.
      if (result?.code !== "conflict" || !Number.isInteger(result.body?.count)) return;
      count = result.body.count;
    }
  },
  retry: (sample, state, data) => send(of(sample.p, "stuck", "retry"), { tasks: [data.task] }, `the undos of task ${data.task} run again`),
  async resolve(sample, state, data) {
    const asked = await ask(`Is task ${data.task} dealt with?`, "Its undos don't run, and it leaves the list. Both answers go to the application's log.",
      [["who", "who has dealt with it", { required: true, maxlength: "64", value: localStorage.getItem("batrun.who") ?? "" }], ["why", "what was done", { required: true, maxlength: "200" }]], "Resolve");
    if (!asked) return;
    localStorage.setItem("batrun.who", asked.who);
    await send(of(sample.p, "stuck", "resolve"), { tasks: [data.task], who: asked.who, why: asked.why }, `task ${data.task} is resolved`);
  },
};
