// Small helpers. All text goes into text nodes: nothing that was heard or named can become markup.

import { t } from "./lang.js";

/** An element with properties, and with children (elements or texts). */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "role" || key === "for" || key === "scope") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Sets a node's text, if it is another: screen readers and layout are left alone otherwise. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A table, each cell with its column's name for narrow windows. A row's first cell names it. `caption` and `names` are keys of texts. */
export function table(caption, names, rows) {
  return element("table", { class: "list wide", "data-of": caption },
    element("caption", {}, t(caption)),
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, t(name))))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => {
      const made = element(i ? "td" : "th", { scope: i ? null : "row" }, cell instanceof Node ? cell : String(cell));
      made.dataset.name = t(names[i]);
      return made;
    })))));
}

/** Asks the interface. Throws an Error that is a sentence for people. */
export async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  if (answer.status === 401) {
    location.assign("login");
    throw new Error(t("login.first"));
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? t("ask.status", { status: answer.status }));
  return found;
}
