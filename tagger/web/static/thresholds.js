// The view Thresholds: how many events each threshold would have given, from the scores that were kept; setting one.

import { ask, element, setText } from "./dom.js";
import { number, t, time, words } from "./lang.js";

const SPANS = ["day", "week", "month"];
const SVG = "http://www.w3.org/2000/svg";
const [WIDEST, HEIGHT, LEFT, BOTTOM] = [1160, 220, 44, 26];
const when = time({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function drawn(name, properties, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A count; a dash where a span was left out, as it would have taken too long.
function counted(count) {
  return count === null ? "–" : number(count);
}

export class Thresholds {
  constructor(section) {
    this.span = "week";
    this.found = null;
    this.at = 0; // place of the chosen threshold
    this.source = element("select", { id: "thresholds-source", onchange: () => this.#labels() });
    this.label = element("select", { id: "thresholds-label", onchange: () => this.#count() });
    this.spans = element("div", { class: "chips", role: "group", "aria-label": t("thresholds.span") }, ...SPANS.map((name) => {
      const chip = element("button", { type: "button", class: "chip", onclick: () => this.#chooseSpan(name) }, t(`thresholds.${name}`));
      chip.dataset.span = name;
      return chip;
    }));
    this.chart = element("div", { class: "chart" });
    new ResizeObserver(() => { if (this.found?.counts?.length) this.#draw(); }).observe(this.chart);
    this.slider = element("input", { type: "range", id: "thresholds-enter", min: 0, step: 1, oninput: () => this.#choose(Number(this.slider.value)) });
    this.said = element("p", { class: "what", role: "status" });
    this.note = element("p", { class: "quiet" });
    this.set = element("button", { type: "button", class: "main", onclick: () => this.#set(this.source.value) });
    this.setAll = element("button", { type: "button", onclick: () => this.#set(null) }, t("thresholds.setAll"));
    this.done = element("p", { role: "status", class: "quiet" });
    this.toml = element("code", { class: "line", tabIndex: 0 });
    this.rows = element("tbody");
    this.body = element("div", {}, this.spans, this.chart,
      element("div", { class: "slide" }, element("label", { for: "thresholds-enter" }, t("thresholds.enter")), this.slider, (this.shown = element("output"))),
      this.said,
      element("div", { class: "copy" }, this.set, this.setAll),
      this.done,
      element("p", { class: "quiet" }, t("thresholds.lasting")),
      element("div", { class: "copy" }, this.toml, element("button", { type: "button", onclick: () => this.#copy() }, t("review.copy"))),
      element("details", {}, element("summary", {}, t("thresholds.table")), element("table", { class: "list wide" },
        element("thead", {}, element("tr", {}, ...["enter", ...SPANS, "right", "wrong"].map((name) => element("th", { scope: "col" }, t(`thresholds.${name}`))))),
        this.rows)));
    section.replaceChildren(element("div", { class: "card" }, element("h2", {}, t("thresholds.title")),
      element("div", { class: "filters" },
        element("label", { for: "thresholds-source" }, t("day.source")), this.source,
        element("label", { for: "thresholds-label" }, t("day.label")), this.label),
      this.note, this.body));
  }

  async load() {
    try {
      const { sources } = await ask("api/sources");
      this.#fill(this.source, sources.map(({ name }) => [name, name]));
      await this.#labels();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    if (options.some(([value]) => value === before)) select.value = before;
  }

  #fail(error) {
    this.body.hidden = true;
    setText(this.note, t("thresholds.failed", { problem: error.message }));
  }

  async #labels() {
    try {
      const { labels } = await ask(`api/thresholds?source=${encodeURIComponent(this.source.value)}`);
      labels.sort((a, b) => b.heard - a.heard || (a.label < b.label ? -1 : 1));
      this.#fill(this.label, labels.map(({ label }) => [label, words(label)]));
      await this.#count();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #count() {
    const asked = { source: this.source.value, label: this.label.value };
    setText(this.note, t("thresholds.counting"));
    this.body.classList.add("waiting");
    try {
      const found = await ask(`api/thresholds?${new URLSearchParams(asked)}`);
      if (asked.source !== this.source.value || asked.label !== this.label.value) return;
      this.#show(found);
    } catch (error) {
      this.#fail(error);
    }
    this.body.classList.remove("waiting");
  }

  #show(found) {
    this.found = found;
    const rows = found.counts;
    this.body.hidden = !rows.length;
    setText(this.note, [
      !found.kept ? t("thresholds.off") : !found.windows ? t("thresholds.none") : !rows.length ? t("thresholds.noExit")
        : t("thresholds.since", { since: when.format(new Date(found.since)), windows: found.windows }),
      rows.length && rows[0].month === null ? t("thresholds.cut") : "",
      found.announced ? "" : t("thresholds.denied")].filter(Boolean).join(" "));
    if (!rows.length) return;
    const spans = SPANS.filter((name) => rows[0][name] !== null);
    for (const chip of this.spans.children) chip.disabled = !spans.includes(chip.dataset.span);
    if (!spans.includes(this.span)) this.span = spans.at(-1);
    this.slider.max = rows.length - 1;
    setText(this.set, t("thresholds.set", { source: found.source }));
    this.setAll.hidden = this.source.options.length < 2;
    this.rows.replaceChildren(...rows.map((row) => element("tr", { class: row.enter === found.enter ? "present" : "" },
      element("th", { scope: "row" }, number(row.enter, 2)), ...[...SPANS, "right", "wrong"].map((name) => {
        const cell = element("td", { class: "number" }, counted(row[name]));
        cell.dataset.name = t(`thresholds.${name}`);
        return cell;
      }))));
    this.#choose(Math.max(0, rows.findIndex((row) => row.enter === found.enter)));
  }

  #chooseSpan(name) {
    this.span = name;
    this.#choose(this.at);
  }

  #choose(place) {
    const { counts, enter, reviewed } = this.found;
    this.at = place;
    const row = counts[place];
    this.slider.value = place;
    this.slider.setAttribute("aria-valuetext", number(row.enter, 2));
    setText(this.shown, number(row.enter, 2));
    for (const chip of this.spans.children) chip.setAttribute("aria-pressed", String(chip.dataset.span === this.span));
    const all = reviewed.right + reviewed.wrong;
    setText(this.said, [
      t("thresholds.would", { enter: number(row.enter, 2), day: counted(row.day), week: counted(row.week), month: counted(row.month) }),
      all ? t("thresholds.marks", { right: row.right, ofRight: reviewed.right, wrong: row.wrong, ofWrong: reviewed.wrong }) : ""].filter(Boolean).join(" "));
    setText(this.toml, `[events.labels.${JSON.stringify(this.found.label)}]\nenter = ${row.enter}\n`);
    this.set.disabled = this.setAll.disabled = row.enter === enter;
    this.#draw();
  }

  #draw() {
    const { counts, enter } = this.found;
    const width = Math.min(this.chart.clientWidth || 640, WIDEST); // a pixel a unit, so that texts keep their size
    const most = Math.max(1, ...counts.map((row) => row[this.span]));
    const x = (value) => LEFT + (value - counts[0].enter) / Math.max(0.01, 1 - counts[0].enter) * (width - LEFT - 12);
    const y = (value) => HEIGHT - BOTTOM - Math.sqrt(value / most) * (HEIGHT - BOTTOM - 14);
    const points = counts.map((row) => `${x(row.enter).toFixed(1)},${y(row[this.span]).toFixed(1)}`);
    const ticks = [...new Set([0, Math.round(most / 8), Math.round(most / 2), most])];
    const chosen = counts[this.at];
    const mark = (value, kind) => drawn("line", { class: kind, x1: x(value), x2: x(value), y1: 8, y2: HEIGHT - BOTTOM });
    const text = (value, at, up, anchor) => drawn("text", { x: at, y: up, "text-anchor": anchor }, number(value));
    this.chart.replaceChildren(drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": this.said.textContent },
      ...ticks.map((value) => drawn("line", { class: "grid", x1: LEFT, x2: width - 12, y1: y(value), y2: y(value) })),
      ...ticks.map((value) => text(value, LEFT - 8, y(value) + 4, "end")),
      drawn("polygon", { class: "area", points: `${x(counts[0].enter)},${y(0)} ${points.join(" ")} ${x(counts.at(-1).enter)},${y(0)}` }),
      drawn("polyline", { class: "curve", points: points.join(" ") }),
      mark(enter, "present"), mark(chosen.enter, "chosen"),
      drawn("circle", { class: "chosen", cx: x(chosen.enter), cy: y(chosen[this.span]), r: 5 }),
      ...counts.filter((row) => Math.round(row.enter * 100) % 20 === 0).map((row) => text(row.enter.toFixed(1), x(row.enter), HEIGHT - 8, "middle"))));
  }

  async #set(source) {
    const { enter } = this.found.counts[this.at];
    try {
      await ask("api/thresholds", { method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ source, label: this.found.label, enter }) });
      this.found.enter = enter;
      this.#choose(this.at);
      setText(this.done, t("thresholds.done", { enter: number(enter, 2) }));
    } catch (error) {
      setText(this.done, t("thresholds.failed", { problem: error.message }));
    }
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.toml.textContent);
      setText(this.done, t("review.copied"));
    } catch {
      getSelection().selectAllChildren(this.toml);
      setText(this.done, t("review.copyByHand"));
    }
  }
}
