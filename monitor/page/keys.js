// The keys, where nobody types.

const VIEWS = { o: "overview", t: "tasks", f: "failures", s: "stuck", j: "journal", n: "nodes" };

export function listen({ go, live, render }) {
  let after = null;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName) && event.target.type !== "checkbox";
    if (event.key === "Escape" && typing) return event.target.blur();
    if (typing) return;
    const before = after;
    after = null;
    if (before === "g" && VIEWS[event.key]) return go(VIEWS[event.key]);
    switch (event.key) {
      case "/":
        event.preventDefault();
        return document.getElementById("search")?.focus();
      case "?":
        return document.querySelector('[data-act="help"]')?.click();
      case "p":
        live.set(live.every === 0 ? 1 : 0);
        return render();
      case "j":
        return row(1);
      case "k":
        return row(-1);
      case "g":
        after = "g";
        return undefined;
      case "Escape":
        return history.length > 1 ? history.back() : undefined;
      default:
        return undefined;
    }
  });
}

function row(step) {
  const rows = [...document.querySelectorAll("[data-row] a")];
  if (rows.length === 0) return;
  const at = rows.indexOf(document.activeElement);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step))];
  next.focus();
}
