// The view Day: the events of one day, from the event log.

import { clipButton } from "./clip.js";
import { ask, element, setText } from "./dom.js";
import { duration, number, t, timeOfDay, words } from "./lang.js";

const AT_ONCE = 200;
const pad = (number) => String(number).padStart(2, "0");
const isoDay = (date) => `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;

export class Day {
  constructor(section) {
    this.date = element("input", { type: "date", id: "day-date", value: isoDay(new Date()), onchange: () => this.load() });
    this.source = element("select", { id: "day-source", onchange: () => this.show() });
    this.score = element("input", { type: "range", id: "day-score", min: 0, max: 1, step: 0.05, value: 0, oninput: () => this.show() });
    this.labels = element("div", { class: "chips", role: "group", "aria-label": t("day.labels") });
    this.note = element("p", { class: "quiet", role: "status" });
    this.rows = element("tbody");
    this.more = element("button", { type: "button", onclick: () => this.show(this.shown + 5 * AT_ONCE) }, t("day.more"));
    this.chosen = null;
    this.events = [];
    const move = (days) => () => {
      const date = new Date(`${this.date.value}T12:00`);
      date.setDate(date.getDate() + days);
      this.date.value = isoDay(date);
      this.load();
    };
    section.replaceChildren(element("div", { class: "card" },
      element("h2", {}, t("day.title")),
      element("div", { class: "filters" },
        element("button", { type: "button", "aria-label": t("day.before"), onclick: move(-1) }, "‹"),
        element("label", { class: "unseen", for: "day-date" }, t("day.date")), this.date,
        element("button", { type: "button", "aria-label": t("day.after"), onclick: move(1) }, "›"),
        element("label", { for: "day-source" }, t("day.source")), this.source,
        element("label", { for: "day-score" }, t("day.score"), " ", (this.least = element("output", {}, number(0, 2)))), this.score),
      this.labels, this.note,
      element("table", { class: "list" },
        element("thead", {}, element("tr", {}, ...["begin", "label", "source", "lasted", "peak"].map((name) => element("th", { scope: "col" }, t(`day.${name}`))))),
        this.rows),
      this.more));
  }

  async load() {
    const [year, month, date] = this.date.value.split("-").map(Number);
    if (!date) return;
    const since = new Date(year, month - 1, date).toISOString();
    const until = new Date(year, month - 1, date + 1).toISOString();
    setText(this.note, t("day.loading"));
    try {
      const { events, more, kept } = await ask(`api/events?since=${since}&until=${until}&limit=5000`);
      this.events = events.reverse();
      this.hint = [more ? t("day.cut", { count: 5000 }) : "",
        kept === "memory" ? t("day.memory") : ""].filter(Boolean).join(" ");
      const sources = [...new Set(events.map((event) => event.source))].sort();
      const before = this.source.value;
      this.source.replaceChildren(element("option", { value: "" }, t("day.all")), ...sources.map((name) => element("option", { value: name }, name)));
      this.source.value = sources.includes(before) ? before : "";
      this.show();
    } catch (error) {
      setText(this.note, t("day.failed", { problem: error.message }));
    }
  }

  show(most = AT_ONCE) {
    this.shown = most;
    const least = Number(this.score.value);
    setText(this.least, number(least, 2));
    const of = this.events.filter((event) => (!this.source.value || event.source === this.source.value) && event.peak_score >= least);
    const counts = new Map();
    for (const { label } of of) counts.set(label, (counts.get(label) ?? 0) + 1);
    if (!counts.has(this.chosen)) this.chosen = null;
    const focused = this.labels.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    this.labels.replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([label, count]) => {
      const chip = element("button", { type: "button", class: "chip", "aria-pressed": String(label === this.chosen),
        onclick: () => { this.chosen = label === this.chosen ? null : label; this.show(); } },
      words(label), " ", element("span", { class: "quiet" }, String(count)));
      chip.dataset.label = label;
      return chip;
    }));
    if (focused) this.labels.querySelector(`[data-label="${CSS.escape(focused)}"]`)?.focus();
    const found = of.filter((event) => !this.chosen || event.label === this.chosen);
    this.rows.replaceChildren(...found.slice(0, most).map((event) => element("tr", { class: event.offset ? "" : "open" },
      element("td", {}, element("time", { dateTime: event.onset }, timeOfDay(event.onset))),
      element("td", {}, element("strong", {}, words(event.label)), event.cause ? element("span", { class: "quiet" }, ` ${t(`event.${event.cause}`)}`) : null, clipButton(event)),
      element("td", {}, event.source),
      element("td", {}, event.offset ? duration(event.duration_s) : t("event.still")),
      element("td", { class: "number" }, number(event.peak_score, 2)))));
    this.more.hidden = found.length <= most;
    const count = found.length ? t("day.events", { count: found.length }) : t("day.none");
    setText(this.note, [count, this.hint].filter(Boolean).join(" "));
  }
}
