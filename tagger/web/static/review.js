// The view Review: saved clips, one after another: right, wrong, or another label. The marks are those of `tagger review`.

import { ClipPlayer } from "./clip.js";
import { ask, element, setText } from "./dom.js";
import { duration, number, t, time, words } from "./lang.js";

const AT_ONCE = 300;
const STATES = ["none", "all", "right", "wrong", "other"];
const KEYS = { r: "right", w: "wrong", o: "other", z: "undo", " ": "play", x: "select", a: "selectAll", j: "next", k: "before" };
const when = time({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class Review {
  constructor(section) {
    this.section = section;
    this.clips = [];
    this.chosen = new Set(); // ids of selected clips
    this.at = -1; // place of the clip that is shown
    this.undone = []; // what takes back each step, the last one last
    this.turn = Promise.resolve(); // the last step: the next one begins when the daemon has answered
    this.player = new ClipPlayer();
    this.title = element("h2");
    this.said = element("p", { class: "quiet", role: "status" });
    this.list = element("ol", { class: "clips", "aria-label": t("review.list") });
    this.state = element("select", { id: "review-state", onchange: () => this.load() },
      ...STATES.map((name) => element("option", { value: name }, t(`review.state.${name}`))));
    this.label = element("select", { id: "review-label", onchange: () => this.load() });
    this.each = element("input", { type: "checkbox", id: "review-each", checked: true });
    this.other = element("input", { type: "text", id: "review-other", maxLength: 60, autocomplete: "off", spellcheck: false,
      "aria-label": t("review.otherLabel"), placeholder: t("review.otherLabel") });
    this.known = element("datalist", { id: "review-known" });
    this.other.setAttribute("list", "review-known");
    this.otherForm = element("form", { class: "other", hidden: true, onsubmit: (press) => { press.preventDefault(); this.#takeOther(); } },
      this.other, this.known, element("button", { type: "submit", class: "main" }, t("review.take")),
      element("button", { type: "button", onclick: () => this.#closeOther() }, t("review.cancel")));
    this.buttons = ["right", "wrong", "other", "undo"].map((name) => this.#button(name));
    this.keys = element("details", { class: "keys" }, element("summary", {}, t("review.keys")),
      element("dl", {}, ...Object.entries(KEYS).flatMap(([key, name]) => [
        element("dt", {}, element("kbd", {}, key === " " ? t("review.space") : key.toUpperCase())),
        element("dd", {}, t(`review.key.${name}`))])));
    this.precision = element("div", { class: "precision" });
    this.train = element("code", { class: "line", tabIndex: 0 });
    this.copy = element("button", { type: "button", onclick: () => this.#copyLine() }, t("review.copy"));
    this.learn = element("div", { class: "card learn", hidden: true },
      element("h2", {}, t("review.learn")), element("p", { class: "quiet" }, t("review.learnWhy")),
      element("div", { class: "copy" }, this.train, this.copy));
    this.more = element("p", { class: "quiet" });
    this.none = element("p", { class: "card quiet", hidden: true });
    this.parts = element("div", { class: "review" },
      element("article", { class: "card now" }, this.title, this.player.node,
        element("div", { class: "verdicts" }, ...this.buttons), this.otherForm, this.said, this.keys),
      element("div", { class: "card queue" },
        element("div", { class: "filters" },
          element("label", { for: "review-state", class: "unseen" }, t("review.show")), this.state,
          element("label", { for: "review-label", class: "unseen" }, t("review.label")), this.label,
          element("span", { class: "check" }, this.each, element("label", { for: "review-each" }, t("review.each")))),
        this.list, this.more),
      element("div", { class: "card counts" }, element("h2", {}, t("review.precision")), this.precision),
      this.learn);
    section.replaceChildren(this.none, this.parts);
    document.addEventListener("keydown", (press) => this.#press(press));
  }

  #button(name) {
    const key = Object.keys(KEYS).find((each) => KEYS[each] === name);
    return element("button", { type: "button", class: name, "aria-keyshortcuts": key.toUpperCase(), onclick: () => this.#act(name) },
      t(`review.${name}`), " ", element("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
  }

  async load() {
    const shown = this.clips[this.at]?.id;
    const asked = new URLSearchParams({ verdict: this.state.value, limit: AT_ONCE });
    if (this.label.value) asked.set("label", this.label.value);
    try {
      const found = await ask(`api/clips?${asked}`);
      this.none.hidden = true;
      this.parts.hidden = false;
      this.clips = found.clips;
      this.chosen.clear();
      setText(this.more, found.more ? t("review.more", { count: AT_ONCE }) : "");
      this.#summary(found);
      this.#rows();
      const place = this.clips.findIndex((clip) => clip.id === shown);
      this.#show(Math.max(place, 0));
    } catch (error) {
      this.parts.hidden = true;
      this.none.hidden = false;
      setText(this.none, error.message);
    }
  }

  /** The view is left: nothing sounds on. */
  leave() {
    this.player.stop();
  }

  #rows() {
    this.list.replaceChildren(...this.clips.map((clip, place) => {
      const check = element("input", { type: "checkbox", "aria-label": t("review.select", { label: words(clip.label), time: when.format(new Date(clip.onset)) }),
        checked: this.chosen.has(clip.id), onclick: (press) => this.#select(place, check.checked, press.shiftKey) });
      const open = element("button", { type: "button", class: "clip", onclick: () => { this.#show(place); this.player.play(); } },
        element("strong", {}, words(clip.label)),
        element("span", { class: "quiet" }, `${when.format(new Date(clip.onset))} · ${clip.source}`),
        element("span", { class: "quiet numbers" }, `${duration(clip.duration_s)} · ${number(clip.peak_score, 2)}`),
        element("span", { class: "badge" }));
      const row = element("li", {}, check, open);
      this.#badge(row, clip);
      return row;
    }));
  }

  #badge(row, clip) {
    const badge = row.querySelector(".badge");
    badge.dataset.verdict = clip.verdict ?? "none";
    setText(badge, clip.verdict === "other" ? words(clip.told) : t(`review.verdict.${clip.verdict ?? "none"}`));
  }

  #select(place, on, isRange) {
    const from = isRange && this.lastSelected >= 0 ? this.lastSelected : place;
    for (let i = Math.min(from, place); i <= Math.max(from, place); i++) this.#mark(i, on);
    this.lastSelected = place;
    this.#count();
  }

  #mark(place, on) {
    const clip = this.clips[place];
    if (!clip) return;
    this.chosen[on ? "add" : "delete"](clip.id);
    this.list.children[place].firstElementChild.checked = on;
  }

  #count() {
    const count = this.chosen.size;
    setText(this.said, count ? t("review.selected", { count }) : "");
  }

  #show(place) {
    this.list.children[this.at]?.removeAttribute("aria-current");
    this.at = Math.min(place, this.clips.length - 1);
    const clip = this.clips[this.at];
    for (const button of this.buttons.slice(0, 3)) button.disabled = !clip;
    this.player.node.hidden = !clip;
    if (!clip) {
      this.player.stop();
      setText(this.title, t(this.state.value === "none" ? "review.done" : "review.nothing"));
      return;
    }
    setText(this.title, `${words(clip.label)} · ${clip.source}`);
    const row = this.list.children[this.at];
    row.setAttribute("aria-current", "true");
    const { offsetTop, offsetHeight } = row;
    const { scrollTop, clientHeight } = this.list;
    if (offsetTop < scrollTop || offsetTop + offsetHeight > scrollTop + clientHeight) this.list.scrollTop = offsetTop - clientHeight / 3;
    this.player.show(clip);
  }

  #act(name) {
    if (name === "undo") this.#inTurn(() => this.#undo());
    else if (name === "play") this.player.toggle();
    else if (name === "next" || name === "before") this.#step(name === "next" ? 1 : -1);
    else if (name === "select") this.#select(this.at, !this.chosen.has(this.clips[this.at]?.id), false);
    else if (name === "selectAll") this.#selectAll();
    else if (name === "other") this.#openOther();
    else this.#inTurn(() => this.#say(name));
  }

  #inTurn(step) {
    this.turn = this.turn.then(step, step);
  }

  #step(by) {
    const place = this.at + by;
    if (place < 0 || place >= this.clips.length) return;
    this.#show(place);
    if (this.each.checked) this.player.play();
  }

  #selectAll() {
    const all = this.chosen.size < this.clips.length;
    this.clips.forEach((clip, place) => this.#mark(place, all));
    this.#count();
  }

  #openOther() {
    if (!this.clips.length) return;
    this.otherForm.hidden = false;
    this.other.value = "";
    this.other.focus();
  }

  #closeOther() {
    this.otherForm.hidden = true;
    this.buttons[2].focus();
  }

  #takeOther() {
    const label = this.other.value.trim();
    if (!label) return;
    const known = [...this.known.children].find((option) => option.value.toLowerCase() === label.toLowerCase());
    this.#closeOther();
    this.#inTurn(() => this.#say(known?.dataset.label ?? label));
  }

  /** Marks the selected clips, or the one that is shown. */
  async #say(verdict) {
    const ids = this.chosen.size ? [...this.chosen] : [this.clips[this.at]?.id].filter(Boolean);
    if (!ids.length) return;
    const found = await this.#send(Object.fromEntries(ids.map((id) => [id, verdict])));
    if (!found) return;
    this.undone.push(found.undo);
    const name = ["right", "wrong"].includes(verdict) ? t(`review.verdict.${verdict}`) : words(verdict);
    const label = words(found.clips[0].label);
    setText(this.said, ids.length === 1 ? t("review.said", { label, verdict: name }) : t("review.saidAll", { count: ids.length, verdict: name }));
    this.clips.forEach((clip, place) => this.chosen.has(clip.id) && this.#mark(place, false));
    const next = this.clips.findIndex((clip, place) => place > this.at && !clip.verdict);
    const first = this.clips.findIndex((clip) => !clip.verdict);
    const to = next >= 0 ? next : first;
    if (to < 0) return;
    this.#show(to);
    if (this.each.checked) this.player.play();
  }

  async #undo() {
    const marks = this.undone.pop();
    if (!marks) {
      setText(this.said, t("review.nothingToUndo"));
      return;
    }
    const found = await this.#send(marks);
    if (!found) {
      this.undone.push(marks);
      return;
    }
    setText(this.said, t("review.undone", { count: found.clips.length }));
    const place = this.clips.findIndex((clip) => clip.id === found.clips[0].id);
    if (place >= 0) this.#show(place);
  }

  async #send(marks) {
    try {
      const found = await ask("api/clips/marks", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ marks }) });
      for (const clip of found.clips) {
        const place = this.clips.findIndex((each) => each.id === clip.id);
        if (place < 0) continue;
        this.clips[place] = clip;
        this.#badge(this.list.children[place], clip);
      }
      this.#summary(found);
      return found;
    } catch (error) {
      setText(this.said, t("review.failed", { problem: error.message }));
      return null;
    }
  }

  /** What the reviews say so far. */
  #summary({ labels, train }) {
    const before = this.label.value;
    const names = labels.map(({ label }) => label).sort();
    this.label.replaceChildren(element("option", { value: "" }, t("review.allLabels")), ...names.map((name) => element("option", { value: name }, words(name))));
    this.label.value = names.includes(before) ? before : "";
    this.known.replaceChildren(...names.map((name) => {
      const option = element("option", { value: words(name) });
      option.dataset.label = name;
      return option;
    }));
    const reviewed = labels.filter(({ precision }) => precision !== null);
    this.precision.replaceChildren(reviewed.length ? element("table", { class: "list wide" },
      element("thead", {}, element("tr", {}, ...["label", "verdict.right", "verdict.wrong", "verdict.other", "left", "precisionShort"]
        .map((name) => element("th", { scope: "col" }, t(`review.${name}`))))),
      element("tbody", {}, ...reviewed.map((each) => this.#precisionRow(each))))
      : element("p", { class: "quiet" }, t("review.noneYet")));
    this.learn.hidden = !train;
    setText(this.train, train ?? "");
  }

  #precisionRow({ label, right, wrong, other, unreviewed, precision }) {
    const bar = element("span", { class: "bar" });
    bar.style.transform = `scaleX(${precision})`;
    const cells = [[right, "verdict.right"], [wrong, "verdict.wrong"], [other, "verdict.other"], [unreviewed, "left"]];
    return element("tr", {}, element("th", { scope: "row" }, words(label)), ...cells.map(([count, name]) => {
      const cell = element("td", { class: "number" }, number(count));
      cell.dataset.name = t(`review.${name}`);
      return cell;
    }), element("td", { class: "share" }, element("span", { class: "track", "aria-hidden": "true" }, bar),
      element("span", {}, t("review.percent", { share: Math.round(100 * precision) }))));
  }

  async #copyLine() {
    try {
      await navigator.clipboard.writeText(this.train.textContent);
      setText(this.copy, t("review.copied"));
    } catch { // no secure context: it is selected, to be copied by hand
      getSelection().selectAllChildren(this.train);
      setText(this.copy, t("review.copyByHand"));
    }
    setTimeout(() => setText(this.copy, t("review.copy")), 3000);
  }

  #press(press) {
    if (this.section.hidden || this.parts.hidden || press.ctrlKey || press.metaKey || press.altKey) return;
    const { target } = press;
    if (press.key === "Escape" && !this.otherForm.hidden) {
      this.#closeOther();
      return;
    }
    const inField = target.closest?.("input:not([type=checkbox]), select, textarea, dialog");
    const isOutside = target !== document.body && !target.closest?.("main");
    if (inField || isOutside) return;
    const name = { ArrowDown: "next", ArrowUp: "before" }[press.key] ?? KEYS[press.key.toLowerCase()];
    if (!name || (press.key === " " && target.closest?.("button, input, summary, a"))) return;
    press.preventDefault();
    if (!press.repeat || name === "next" || name === "before") this.#act(name);
  }
}
