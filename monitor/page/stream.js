// The stream of samples: closed while nobody looks, opened again when it breaks.

import { get } from "./api.js";

export class Live {
  constructor(sample, changed) {
    this.sample = sample;
    this.changed = changed;
    this.every = Number(localStorage.getItem("batrun.every") ?? 1);
    this.last = null;
    this.source = null;
    this.tries = 0;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    window.addEventListener("pagehide", () => this.close());
    setInterval(() => this.changed(), 1000);
    this.open();
  }

  // Seconds between samples; 0 stands for a pause.
  set(every) {
    this.every = every;
    localStorage.setItem("batrun.every", String(every));
    this.close();
    this.open();
  }

  open() {
    if (document.hidden || this.source || this.timer) return;
    if (this.every === 0) return void this.once();
    const source = new EventSource(`api/v1/stream?every=${this.every}`);
    this.source = source;
    source.addEventListener("sample", (event) => {
      this.tries = 0;
      this.take(JSON.parse(event.data));
    });
    source.addEventListener("bye", () => this.again());
    source.onerror = () => this.again();
  }

  close() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    this.timer = null;
  }

  take(sample) {
    this.last = Date.now();
    this.failed = null;
    this.sample(sample);
  }

  // One sample by hand, also where there is no place for another stream.
  async once() {
    try {
      this.take(await get("pipelines"));
    } catch (error) {
      this.failed = error.message;
      this.changed();
    }
  }

  again() {
    this.close();
    if (document.hidden) return;
    this.once();
    this.tries = Math.min(this.tries + 1, 5);
    // Not all pages at the same time.
    const wait = 500 * 2 ** this.tries * (0.5 + Math.random());
    this.timer = setTimeout(() => {
      this.timer = null;
      this.open();
    }, wait);
    this.changed();
  }

  get state() {
    if (this.every === 0) return ["paused", "paused"];
    if (this.last === null) return ["stale", this.failed ?? "connecting"];
    const age = Math.round((Date.now() - this.last) / 1000);
    const late = age > this.every * 2 + 2;
    return late ? ["stale", `stale since ${age} s${this.failed ? `: ${this.failed}` : ""}`] : ["live", "live"];
  }
}
