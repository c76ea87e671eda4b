// The view Now: a card for each source, and the latest events.

import { ask, element, setText } from "./dom.js";
import { duration, language, number, reason, t, timeOfDay, words } from "./lang.js";
import { LevelPlot } from "./levels.js";
import { Spectrogram } from "./spectrogram.js";

const SIGNS = { starting: "…", hearing: "●", silent: "○", retrying: "↻", off: "❚❚", ended: "■" };
const MOST_LATEST = 30;
const LOWEST_DB = -70;
const MANY = 6; // from more sources on, cards are small and can be filtered

class Card {
  constructor(name, shape) {
    this.name = name;
    this.badge = element("span", { class: "badge" });
    this.detail = element("p", { class: "quiet detail" });
    this.button = element("button", { type: "button", "data-needs": "pause", onclick: () => this.toggle() });
    this.canvas = element("canvas", { role: "img", "aria-label": t("source.spectrogram", { name }) });
    this.level = element("div", { class: "level", role: "meter", "aria-label": t("source.level", { name }), "aria-valuemin": LOWEST_DB, "aria-valuemax": 0, "aria-valuenow": LOWEST_DB },
      (this.bar = element("span", { class: "bar" })), (this.peak = element("span", { class: "peak" })));
    this.hour = element("canvas", { class: "hour", role: "img", "aria-label": t("level.none", { name }) });
    this.at = element("p", { class: "at quiet", "aria-hidden": "true" });
    this.decibels = element("span", { class: "decibels quiet" }, "– dB");
    this.why = element("p", { class: "why quiet" }, t("source.first"));
    this.scores = element("ol", { class: "scores", "aria-label": t("source.scores", { name }) });
    this.rows = [];
    this.held = LOWEST_DB;
    this.node = element("article", { class: "card source", "aria-label": t("source.named", { name }) },
      element("header", {}, element("h2", {}, name), this.badge, this.button),
      this.detail,
      element("div", { class: "picture" }, this.canvas, this.axis(shape.hertz)),
      element("div", { class: "meter" }, this.level, this.decibels),
      element("div", { class: "hours" }, this.hour, this.at),
      this.scores,
      this.why);
    this.node.dataset.source = name;
    this.spectrogram = new Spectrogram(this.canvas, shape);
    this.plot = new LevelPlot(this.hour, this.at, name);
  }

  close() {
    this.spectrogram.close();
    this.plot.close();
  }

  /** Whether it is on the screen. Elsewhere scores wait. */
  set isSeen(seen) {
    this.seen = seen;
    if (seen && this.waiting) this.setScores(this.waiting);
  }

  get isAmiss() {
    return !["hearing", "off", "ended"].includes(this.health?.state) || this.health.problems.length > 0;
  }

  /** Marks of frequencies, at their place on the mel scale. */
  axis([low, high]) {
    const mel = (hertz) => Math.log1p(hertz / 700);
    const marks = [200, 1000, 3000, 8000].filter((hertz) => hertz > low && hertz < 0.93 * high);
    return element("div", { class: "axis", "aria-hidden": "true" }, ...marks.map((hertz) => {
      const mark = element("span", {}, hertz < 1000 ? `${hertz}` : `${hertz / 1000}k`);
      mark.style.bottom = `${(100 * (mel(hertz) - mel(low))) / (mel(high) - mel(low))}%`;
      return mark;
    }));
  }

  async toggle() {
    this.button.disabled = true;
    try {
      await ask(`api/sources/${encodeURIComponent(this.name)}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ enabled: this.isPaused }),
      });
    } catch (error) {
      setText(this.detail, t("source.failed", { problem: error.message }));
    }
    this.button.disabled = false;
  }

  get isPaused() {
    return this.health?.state === "off" && this.health.reason === "paused";
  }

  setHealth(health, now) {
    this.health = health;
    setText(this.badge, `${SIGNS[health.state] ?? "?"} ${t(`state.${this.isPaused ? "paused" : health.state}`)}`);
    this.badge.dataset.state = health.state;
    const lasted = duration(Math.max(0, (now - Date.parse(health.since)) / 1000));
    const why = language === "en" || !health.reason ? health.detail : t(`reason.${health.reason}`); // the detail is English
    const said = why && !this.isPaused ? why : "";
    setText(this.detail, health.state === "hearing" && !said ? "" : [said, t("source.for", { time: lasted })].filter(Boolean).join(", "));
    this.detail.title = health.detail;
    this.detail.hidden = !this.detail.textContent;
    setText(this.button, t(this.isPaused ? "source.resume" : "source.pause"));
    this.button.setAttribute("aria-label", t(this.isPaused ? "source.resumeOf" : "source.pauseOf", { name: this.name }));
    this.node.classList.toggle("still", health.state !== "hearing");
  }

  setLevel({ time, rms_dbfs, peak_dbfs, clipped }) {
    this.plot.add(time, rms_dbfs, peak_dbfs);
    const share = (decibels) => Math.max(0, Math.min(1, (decibels - LOWEST_DB) / -LOWEST_DB));
    this.held = Math.max(peak_dbfs, this.held - 1.5);
    this.bar.style.transform = `scaleX(${share(rms_dbfs)})`;
    this.peak.style.left = `${100 * share(this.held)}%`;
    this.level.setAttribute("aria-valuenow", Math.round(rms_dbfs));
    this.level.classList.toggle("clipped", clipped > 0);
    setText(this.decibels, clipped ? t("source.loud") : `${Math.round(rms_dbfs)} dB`);
  }

  setScores(scores) {
    this.waiting = this.seen ? null : scores;
    if (!this.seen) return;
    const { top } = scores;
    while (this.rows.length < top.length) {
      const parts = { name: element("span", { class: "name" }), bar: element("span", { class: "bar" }), mark: element("span", { class: "mark" }),
        number: element("span", { class: "number" }), reason: element("span", { class: "reason" }) };
      const track = element("span", { class: "track", "aria-hidden": "true" }, parts.bar, parts.mark);
      const row = element("li", {}, parts.name, track, parts.number, parts.reason);
      this.rows.push({ row, ...parts });
      this.scores.append(row);
    }
    while (this.rows.length > top.length) this.rows.pop().row.remove();
    top.forEach(({ label, score, enter, why }, i) => {
      const parts = this.rows[i];
      parts.row.className = why === null ? "announced" : score >= enter ? "near" : "";
      setText(parts.name, words(label));
      parts.bar.style.transform = `scaleX(${score})`;
      parts.mark.hidden = enter === null;
      if (enter !== null) parts.mark.style.left = `${100 * enter}%`;
      setText(parts.number, number(score, 2));
      setText(parts.reason, why === null ? t("score.announced") : reason(why));
      parts.number.title = enter === null ? "" : t("score.begins", { score: number(enter, 2) });
    });
    this.why.hidden = true;
  }
}

export class Now {
  constructor(onWanted) {
    this.cards = new Map();
    this.latest = new Map();
    this.onWanted = onWanted;
    this.list = document.getElementById("sources");
    this.seen = new Set();
    this.watcher = new IntersectionObserver((entries) => {
      const came = [];
      for (const { target: { dataset: { source } }, isIntersecting } of entries) {
        if (isIntersecting && !this.seen.has(source)) came.push(source);
        this.seen[isIntersecting ? "add" : "delete"](source);
        const card = this.cards.get(source);
        if (card) card.isSeen = isIntersecting;
      }
      this.onWanted();
      this.#levels(came);
    }, { rootMargin: "80px" });
    this.find = element("input", { id: "find", type: "search", autocomplete: "off", spellcheck: false, oninput: () => this.filter() });
    this.amiss = element("input", { id: "amiss", type: "checkbox", onchange: () => this.filter() });
    this.count = element("span", { class: "quiet", role: "status" });
    this.tools = document.getElementById("find-sources");
    this.tools.replaceChildren(element("label", { for: "find" }, t("find.name")), this.find,
      element("span", { class: "choice" }, this.amiss, element("label", { for: "amiss" }, t("find.amiss"))), this.count);
  }

  /** Shows the sources whose name holds what is sought. */
  filter() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [name, card] of this.cards) {
      const fits = words.every((word) => name.toLowerCase().includes(word)) && (!this.amiss.checked || card.isAmiss);
      card.node.hidden = !fits;
      shown += fits;
    }
    setText(this.count, t("find.count", { shown, all: this.cards.size }));
  }

  /** The last hour of sources that came onto the screen. */
  async #levels(names) {
    if (!names.length) return;
    const found = await ask(`api/levels?source=${encodeURIComponent(names.join(","))}`).catch(() => ({ levels: {} }));
    for (const [name, points] of Object.entries(found.levels)) this.cards.get(name)?.plot.set(points);
  }

  /** Asks for the levels of the time in which the page was fed nothing. */
  catchUp() {
    return this.#levels([...this.seen]);
  }

  /** Sources whose spectrogram is on the screen; at the beginning, when none is known, none. */
  get wanted() {
    return [...this.seen].sort();
  }

  hello({ sources, columns, scores, events, health }) {
    const same = sources.length === this.cards.size && sources.every((name) => this.cards.has(name))
      && JSON.stringify(columns) === this.shape;
    if (!same) {
      this.shape = JSON.stringify(columns);
      this.cards.forEach((card) => card.close());
      this.watcher.disconnect();
      this.seen.clear();
      this.cards = new Map(sources.map((name) => [name, new Card(name, columns)]));
      this.list.replaceChildren(...[...this.cards.values()].map((card) => card.node));
      this.cards.forEach((card) => this.watcher.observe(card.node));
      this.tools.hidden = sources.length <= MANY;
      this.list.classList.toggle("many", sources.length > MANY);
    }
    this.health(health);
    scores.forEach((each) => this.scores(each));
    this.latest.clear();
    document.getElementById("latest").replaceChildren();
    events.forEach((event) => this.event(event));
  }

  health({ sources, time }) {
    for (const [name, health] of Object.entries(sources)) this.cards.get(name)?.setHealth(health, Date.parse(time));
    if (!this.tools.hidden) this.filter();
  }

  level(level) {
    this.cards.get(level.source)?.setLevel(level);
  }

  scores(scores) {
    this.cards.get(scores.source)?.setScores(scores);
  }

  columns({ source, time, data }) {
    this.cards.get(source)?.spectrogram.add(time, Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)));
  }

  event(event) {
    this.cards.get(event.source)?.spectrogram.note({ ...event, label: words(event.label) });
    const list = document.getElementById("latest");
    document.getElementById("latest-none").hidden = true;
    let row = this.latest.get(event.id);
    if (!row) {
      row = element("li");
      row.dataset.id = event.id;
      this.latest.set(event.id, row);
      list.prepend(row);
      if (this.latest.size > MOST_LATEST) {
        const [oldest, node] = this.latest.entries().next().value;
        this.latest.delete(oldest);
        node.remove();
      }
    }
    row.className = event.offset ? "" : "open";
    row.replaceChildren(
      element("time", { dateTime: event.onset }, timeOfDay(event.onset)),
      element("strong", {}, words(event.label)),
      element("span", { class: "quiet" }, event.source),
      element("span", { class: "quiet last" }, event.offset ? duration(event.duration_s) : t("event.now"),
        ` · ${number(event.peak_score, 2)}${event.cause ? ` · ${t(`event.${event.cause}`)}` : ""}`));
  }
}
