// The view Day: a map of how often each label was announced, from a year down to a minute, and the events of a field of it.

import { clipButton } from "./clip.js";
import { ask, element, setText } from "./dom.js";
import { duration, number, t, time, timeOfDay, words } from "./lang.js";

const AT_ONCE = 100;
const HEATS = 5;
const LEVELS = ["year", "month", "day", "hour", "minute"];
const pad = (value) => String(value).padStart(2, "0");

/** Beginnings of the stretches of a period, and its end: local times, so a day may have 23 hours. */
const EDGES = {
  year: (at) => Array.from({ length: 13 }, (_, i) => new Date(at.getFullYear(), i, 1)),
  month: (at) => Array.from({ length: new Date(at.getFullYear(), at.getMonth() + 1, 0).getDate() + 1 }, (_, i) => new Date(at.getFullYear(), at.getMonth(), i + 1)),
  day: (at) => {
    const end = new Date(at.getFullYear(), at.getMonth(), at.getDate() + 1);
    const begin = new Date(at.getFullYear(), at.getMonth(), at.getDate());
    return Array.from({ length: Math.round((end - begin) / 3_600_000) + 1 }, (_, i) => new Date(begin.getTime() + i * 3_600_000));
  },
  hour: (at) => steps(at, 3_600_000, 60_000),
  minute: (at) => steps(at, 60_000, 5_000),
};
const NAMES = {
  year: time({ year: "numeric" }), month: time({ month: "long", year: "numeric" }), day: time({ weekday: "long", day: "numeric", month: "long", year: "numeric" }),
  hour: time({ hour: "2-digit", minute: "2-digit" }), minute: time({ hour: "2-digit", minute: "2-digit" }),
};
const CRUMBS = { ...NAMES, month: time({ month: "long" }), day: time({ weekday: "short", day: "numeric" }) };
const HEADS = {
  year: time({ month: "short" }), month: { format: (at) => String(at.getDate()) }, day: { format: (at) => pad(at.getHours()) },
  hour: { format: (at) => pad(at.getMinutes()) }, minute: { format: (at) => pad(at.getSeconds()) },
};
const LONG = {
  year: NAMES.month, month: time({ weekday: "long", day: "numeric", month: "long" }), day: NAMES.hour, hour: NAMES.minute,
  minute: time({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
};

function steps(at, whole, step) {
  const begin = Math.floor(at.getTime() / whole) * whole; // offsets from UTC are whole quarters of an hour; hours are theirs
  const shift = whole === 3_600_000 ? (at.getTimezoneOffset() % 60) * 60_000 : 0;
  return Array.from({ length: whole / step + 1 }, (_, i) => new Date(begin - shift + i * step));
}

export class Day {
  constructor(section) {
    this.section = section;
    this.level = "day";
    this.at = new Date();
    this.cell = null; // which field is chosen: { label, since, until }
    this.focus = [0, 0];
    this.crumbs = element("ol", { class: "crumbs" });
    this.title = element("h2");
    this.node = element("select", { id: "day-node", onchange: () => {
      if (!this.#sources().includes(this.source.value)) this.source.value = ""; // else there would be no events
      this.load();
    } });
    this.nodeLabel = element("label", { for: "day-node" }, t("day.node"));
    this.source = element("select", { id: "day-source", onchange: () => this.load() });
    this.label = element("select", { id: "day-label", onchange: () => this.load() });
    this.score = element("input", { type: "range", id: "day-score", min: 0, max: 1, step: 0.05, value: 0,
      oninput: () => setText(this.least, number(Number(this.score.value), 2)), onchange: () => this.load() });
    this.note = element("p", { class: "quiet", role: "status" });
    this.map = element("table", { class: "map", role: "grid", onkeydown: (press) => this.#key(press) });
    this.listTitle = element("h3", { tabIndex: -1 });
    this.rows = element("tbody");
    this.more = element("button", { type: "button", onclick: () => this.#list(this.shown + 5 * AT_ONCE) }, t("day.more"));
    this.list = element("section", { class: "found", "aria-label": t("day.found"), hidden: true }, this.listTitle,
      element("table", { class: "list" },
        element("thead", {}, element("tr", {}, ...["begin", "label", "source", "lasted", "peak"].map((name) => element("th", { scope: "col" }, t(`day.${name}`))))),
        this.rows),
      this.more);
    section.replaceChildren(element("div", { class: "card" },
      element("nav", { "aria-label": t("day.zoom") }, this.crumbs),
      element("div", { class: "bar-of-period" },
        element("button", { type: "button", class: "round", "aria-label": t("day.before"), onclick: () => this.#move(-1) }, "‹"),
        this.title,
        element("button", { type: "button", class: "round", "aria-label": t("day.after"), onclick: () => this.#move(1) }, "›"),
        element("button", { type: "button", onclick: () => this.#go("day", new Date()) }, t("day.today"))),
      element("div", { class: "filters" },
        this.nodeLabel, this.node,
        element("label", { for: "day-source" }, t("day.source")), this.source,
        element("label", { for: "day-label" }, t("day.label")), this.label,
        element("label", { for: "day-score" }, t("day.score"), " ", (this.least = element("output", {}, number(0, 2)))), this.score),
      (this.frame = element("div", { class: "map-frame" }, this.map)),
      this.note,
      this.list));
  }

  /** Asks for the counts of the period, and draws them. */
  async load() {
    this.section.setAttribute("aria-busy", "true");
    const edges = EDGES[this.level](this.at);
    const asked = (this.asked = {});
    this.#head();
    try {
      const [{ places }, { labels, kept }, all] = await Promise.all([
        this.known ?? ask("api/places"),
        ask(`api/counts?edges=${edges.map((edge) => edge.toISOString()).join(",")}${this.#filters()}`),
        this.label.value ? ask(`api/counts?edges=${edges[0].toISOString()},${edges.at(-1).toISOString()}`) : null,
      ]);
      if (asked !== this.asked) return; // another was asked for meanwhile
      this.known = { places };
      this.kept = kept;
      this.edges = edges;
      this.nodeLabel.hidden = this.node.hidden = places.length < 2;
      this.#options(this.node, places.map(({ node }) => [node, node]));
      this.#options(this.source, this.#sources().map((name) => [name, name]));
      this.#options(this.label, (all?.labels ?? labels).map(({ label }) => [label, words(label)]).sort((a, b) => a[1].localeCompare(b[1])));
      this.#draw(labels);
      if (this.cell) await this.#open(this.cell);
    } catch (error) {
      if (asked === this.asked) setText(this.note, t("day.failed", { problem: error.message }));
    }
    this.section.removeAttribute("aria-busy");
  }

  /** Names of the sources of the chosen node, or of all. */
  #sources() {
    const chosen = this.known.places.filter(({ node }) => [node, ""].includes(this.node.value));
    return [...new Set(chosen.flatMap(({ sources }) => sources))];
  }

  #filters(label = this.label.value) {
    const least = Number(this.score.value);
    return [["node", this.node.value], ["source", this.source.value], ["label", label], ["min_score", least || ""]]
      .filter(([, value]) => value !== "").map(([name, value]) => `&${name}=${encodeURIComponent(value)}`).join("");
  }

  #options(select, named) {
    const before = select.value;
    select.replaceChildren(new Option(t("day.all"), ""), ...named.map(([value, name]) => new Option(name, value)));
    if (before && !named.some(([value]) => value === before)) select.add(new Option(words(before), before));
    select.value = before;
  }

  #head() {
    const place = LEVELS.indexOf(this.level);
    setText(this.title, place < 3 ? NAMES[this.level].format(this.at)
      : `${LONG.month.format(this.at)}, ${NAMES.hour.format(EDGES[this.level](this.at)[0])}–${NAMES.hour.format(EDGES[this.level](this.at).at(-1))}`);
    this.crumbs.replaceChildren(...LEVELS.slice(0, place + 1).map((level, i) => {
      const name = CRUMBS[level].format(EDGES[level](this.at)[0]);
      return element("li", {}, i === place ? element("span", { "aria-current": "true" }, name)
        : element("button", { type: "button", class: "link", onclick: () => this.#go(level, this.at) }, name));
    }));
  }

  #go(level, at) {
    Object.assign(this, { level, at, cell: null, focus: [0, 0] });
    this.list.hidden = true;
    return this.load();
  }

  #move(by) {
    const [begin, end] = [EDGES[this.level](this.at)[0], EDGES[this.level](this.at).at(-1)];
    return this.#go(this.level, by < 0 ? new Date(begin.getTime() - 1) : end);
  }

  #zoom(place) {
    const below = LEVELS[LEVELS.indexOf(this.level) + 1];
    if (below) this.#go(below, this.edges[place]).then(() => this.map.querySelector("[tabindex='0']")?.focus());
  }

  /** On a narrow screen, brings the last events into view. */
  #bring(labels) {
    const last = Math.max(...labels.map(({ counts }) => counts.findLastIndex(Boolean)));
    const field = this.map.tBodies[0]?.rows[0]?.cells[last + 1];
    if (last >= 0 && field) this.frame.scrollLeft = field.offsetLeft + field.offsetWidth - this.frame.clientWidth + 8;
  }

  #draw(labels) {
    const starts = this.edges.slice(0, -1);
    const highest = Math.max(1, ...labels.map(({ counts }) => Math.max(...counts)));
    const canZoom = this.level !== "minute";
    const every = starts.length > 31 ? 5 : 1;
    const focus = [Math.min(this.focus[0], labels.length), this.focus[1]];
    this.fields = [];
    this.places = new Map(); // the field of a place and a label
    const row = (cells) => (this.fields.push(cells), cells);
    const heads = row(starts.map((start, i) => element("button", { type: "button", tabIndex: -1, disabled: !canZoom,
      "aria-label": LONG[this.level].format(start), onclick: () => this.#zoom(i) }, i % every ? "·" : HEADS[this.level].format(start))));
    const body = labels.map(({ label, total, counts }) => element("tr", { role: "row" },
      element("th", { scope: "row", role: "rowheader" }, element("span", { class: "name" }, words(label)), " ", element("span", { class: "quiet" }, number(total))),
      ...row(counts.map((count, i) => {
        const field = element("button", { type: "button", tabIndex: -1, class: "field",
          "aria-label": t("day.field", { label: words(label), from: LONG[this.level].format(starts[i]), count }),
          onclick: () => this.#open({ label, since: starts[i], until: this.edges[i + 1] }, true) }, count ? short(count) : "");
        this.places.set(`${i} ${label}`, field);
        field.dataset.heat = count ? 1 + Math.floor((HEATS - 1) * Math.sqrt(count / highest)) : 0;
        return field;
      })).map((field) => element("td", { role: "gridcell" }, field))));
    this.map.dataset.level = this.level;
    this.map.hidden = !labels.length;
    this.map.setAttribute("aria-label", t("day.map"));
    this.map.replaceChildren(
      element("thead", {}, element("tr", { role: "row" }, element("td"), ...heads.map((head) => element("th", { scope: "col", role: "columnheader" }, head)))),
      element("tbody", {}, ...body));
    this.#mark(...focus);
    this.#bring(labels);
    const total = labels.reduce((sum, each) => sum + each.total, 0);
    setText(this.note, [total ? t("day.events", { count: total }) : t("day.none"), total ? t("day.hint") : "",
      this.kept === "memory" ? t("day.memory") : ""].filter(Boolean).join(" "));
  }

  /** Makes one field of the map the one that the tabulator key reaches. */
  #mark(line, place) {
    this.fields[this.focus[0]]?.[this.focus[1]]?.setAttribute("tabindex", "-1");
    this.focus = [line, place];
    const field = this.fields[line]?.[place];
    field?.setAttribute("tabindex", "0");
    return field;
  }

  #key(press) {
    const line = this.fields.findIndex((fields) => fields.includes(press.target));
    if (line < 0) return;
    const place = this.fields[line].indexOf(press.target);
    const [lines, places] = [this.fields.length - 1, this.fields[line].length - 1];
    const to = { ArrowRight: [line, Math.min(place + 1, places)], ArrowLeft: [line, Math.max(place - 1, 0)], ArrowDown: [Math.min(line + 1, lines), place],
      ArrowUp: [Math.max(line - 1, 0), place], Home: [line, 0], End: [line, places] }[press.key];
    if (to) this.#mark(...to)?.focus();
    else if (press.key === "+") this.#zoom(place);
    else if (press.key === "-" || press.key === "Escape") {
      const above = LEVELS[LEVELS.indexOf(this.level) - 1];
      if (above) this.#go(above, this.at).then(() => this.map.querySelector("[tabindex='0']")?.focus());
    } else return;
    press.preventDefault();
  }

  /** Shows the events of a field. */
  async #open(cell, isNew = false) {
    this.cell = cell;
    const place = this.edges.findIndex((edge) => edge.getTime() === cell.since.getTime());
    for (const field of this.map.querySelectorAll(".chosen")) field.classList.remove("chosen");
    this.places.get(`${place} ${cell.label}`)?.classList.add("chosen");
    try {
      const { events, more } = await ask(`api/events?since=${cell.since.toISOString()}&until=${cell.until.toISOString()}&limit=5000${this.#filters(cell.label)}`);
      this.events = events.filter((event) => event.cause !== "test").reverse();
      const count = t("day.events", { count: this.events.length });
      setText(this.listTitle, `${words(cell.label)}, ${LONG[this.level].format(this.edges[place])}: ${count}${more ? ` ${t("day.cut", { count: 5000 })}` : ""}`);
      this.list.hidden = false;
      this.#list(AT_ONCE);
      if (isNew) this.listTitle.focus({ preventScroll: matchMedia("(min-width: 64rem)").matches });
    } catch (error) {
      setText(this.note, t("day.failed", { problem: error.message }));
    }
  }

  #list(most) {
    this.shown = most;
    this.rows.replaceChildren(...this.events.slice(0, most).map((event) => element("tr", { class: event.offset ? "" : "open" },
      element("td", {}, element("time", { dateTime: event.onset }, timeOfDay(event.onset))),
      element("td", {}, element("strong", {}, words(event.label)), event.cause ? element("span", { class: "quiet" }, ` ${t(`event.${event.cause}`)}`) : null, clipButton(event)),
      element("td", {}, this.node.hidden ? event.source : `${event.node} / ${event.source}`),
      element("td", {}, event.offset ? duration(event.duration_s) : t("event.still")),
      element("td", { class: "number" }, number(event.peak_score, 2)))));
    this.more.hidden = this.events.length <= most;
  }
}

function short(count) {
  return count < 1000 ? String(count) : `${Math.floor(count / 1000)}k`;
}
