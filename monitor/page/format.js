// Numbers and times as people read them. Large numbers come as strings, and stay strings.

export function grouped(number) {
  const text = typeof number === "number" ? String(Math.round(number)) : String(number);
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
}

export function rate(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  if (number >= 100) return grouped(number);
  return number >= 10 ? number.toFixed(1) : number.toFixed(number === 0 ? 0 : 2);
}

const UNITS = [
  [86_400e9, "d", 3_600e9, "h"],
  [3_600e9, "h", 60e9, "min"],
  [60e9, "min", 1e9, "s"],
];

// A duration in nanoseconds.
export function duration(ns) {
  if (ns === null || ns === undefined) return "–";
  const value = Number(ns);
  for (const [unit, name, part, partName] of UNITS) {
    if (value >= unit) {
      const rest = Math.floor((value % unit) / part);
      return `${Math.floor(value / unit)} ${name}${rest ? ` ${rest} ${partName}` : ""}`;
    }
  }
  const [by, name] = value >= 1e9 ? [1e9, "s"] : value >= 1e6 ? [1e6, "ms"] : value >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  const short = value / by;
  return `${short >= 100 || by === 1 ? short.toFixed(0) : short >= 10 ? short.toFixed(1) : short.toFixed(2)} ${name}`;
}

export function clock(ms) {
  const date = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

// With the day, unless that is today.
export function moment(ms) {
  const date = new Date(ms);
  const today = new Date().toDateString() === date.toDateString();
  return today ? clock(ms) : `${date.toLocaleDateString()} ${clock(ms)}`;
}

export function plural(count, one, many = `${one}s`) {
  return `${grouped(count)} ${String(count) === "1" ? one : many}`;
}
