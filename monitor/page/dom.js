// Elements from data, and an old tree made like a new one.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "rect", "circle", "path", "polyline", "line", "g", "title"]);
// The attributes that may be set. Nothing else, so that no text from elsewhere becomes code.
const ATTRIBUTES = new Set([
  "class", "id", "href", "title", "type", "name", "value", "placeholder", "for", "role", "tabindex", "scope", "colspan",
  "min", "max", "step", "maxlength", "autocomplete", "spellcheck", "checked", "selected", "disabled", "open", "required",
  "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "width", "height", "d", "points", "viewBox", "preserveAspectRatio",
]);
const PREFIXES = ["data-", "aria-"];

export function h(tag, attributes, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (!ATTRIBUTES.has(name) && !PREFIXES.some((prefix) => name.startsWith(prefix))) {
      throw new Error(`the attribute ${name} is not on the list`);
    }
    if (name === "href" && !/^(#|api\/|metrics)/.test(value)) throw new Error("a link leads elsewhere");
    node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child === null || child === undefined || child === false) continue;
    else node.append(child instanceof Node ? child : shown(child));
  }
}

// Control characters, and those that turn the direction of text, as they are written in source code.
export function shown(text) {
  return String(text).replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`,
  );
}

// Makes the children of `place` like these. What is there stays where it can: focus and scrolling, too.
export function show(place, ...children) {
  const next = place.cloneNode(false);
  append(next, children);
  sync(place, next);
}

function sync(old, next) {
  const olds = [...old.childNodes];
  const nexts = [...next.childNodes];
  nexts.forEach((child, at) => {
    const there = olds[at];
    if (!there) old.append(child);
    else if (!alike(there, child)) there.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) {
      if (there.data !== child.data) there.data = child.data;
    } else {
      attributes(there, child);
      // Somebody else draws in it.
      if (!("keep" in child.dataset)) sync(there, child);
    }
  });
  olds.slice(nexts.length).forEach((child) => child.remove());
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  return one.nodeType !== Node.ELEMENT_NODE || one.dataset.key === other.dataset.key;
}

function attributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old === document.activeElement) return;
  if (old.nodeName === "INPUT") {
    old.checked = next.hasAttribute("checked");
    if (old.value !== (next.getAttribute("value") ?? "") && old.type !== "checkbox") old.value = next.getAttribute("value") ?? "";
  }
  if (old.nodeName === "OPTION") old.selected = next.hasAttribute("selected");
}
