// The page of a fleet: numbers of all streams, those that are sought, the workers, and the latest events. It asks again each second for what it
// shows; streams that it does not show are only counted.

import { ask, element, setText, table } from "./dom.js";
import { chooser, duration, number, t, timeOfDay, translate, words } from "./lang.js";

const ASK_MS = 1_000;
const AWAY_MS = 3_000;
const STEP = 60; // streams that are shown at first, and more at each press of the button
const MOST = 180;
const SOUND = ["hearing", "off"];

translate();
chooser(document.getElementById("language"));
const find = (id) => document.getElementById(id);
const connection = find("connection");
let limit = STEP;
let timer = 0;
let asked = 0;
let known = null; // ids of the events that were shown

const sought = element("input", { id: "find", type: "search", autocomplete: "off", spellcheck: false, oninput: () => anew() });
const worker = element("select", { id: "worker", onchange: () => anew() }, new Option(t("fleet.anyWorker"), ""));
const amiss = element("input", { id: "amiss", type: "checkbox", onchange: () => anew() });
const sounding = element("input", { id: "sounding", type: "checkbox", onchange: () => anew() });
const count = element("span", { class: "quiet", role: "status" });
find("find-streams").replaceChildren(element("label", { for: "find" }, t("fleet.find")), sought,
  element("label", { for: "worker" }, t("fleet.worker")), worker,
  element("span", { class: "choice" }, amiss, element("label", { for: "amiss" }, t("find.amiss"))),
  element("span", { class: "choice" }, sounding, element("label", { for: "sounding" }, t("fleet.sounding"))), count);
const more = element("button", { type: "button", class: "more", hidden: true, onclick: () => { limit = Math.min(MOST, limit + STEP); look(); } }, t("fleet.more"));

function anew() {
  limit = STEP;
  look();
}

/** Puts something new into a node, unless it would look the same: whoever reads or selects there is left alone. */
function put(node, ...made) {
  const own = [...node.childNodes], fresh = [...element("div", {}, ...made).childNodes];
  if (own.length !== fresh.length || fresh.some((each, i) => !each.isEqualNode(own[i]))) node.replaceChildren(...fresh);
}

function badge(state, text = t(`state.${state}`)) {
  const made = element("span", { class: "badge" }, text);
  made.dataset.state = state === "offline" ? "retrying" : state;
  return made;
}

function sums(found) {
  const each = (key, value, isAmiss = false) => element("div", { class: isAmiss ? "amiss" : "" }, element("dt", {}, t(key)), element("dd", {}, number(value)));
  const said = [...found.problems, ...(found.granting ? [] : [t("fleet.waits")]), ...(found.trouble === null ? [] : [t("nodes.away", { broker: found.broker, trouble: found.trouble })])];
  put(find("sums"), element("dl", { class: "sums" },
    each("fleet.streams", found.sources), each("fleet.heard", found.heard), each("fleet.amiss", found.amiss, found.amiss > 0),
    each("fleet.sounds", found.sounding), each("fleet.workers", found.nodes.filter(({ streams }) => streams !== undefined).length), each("fleet.capacity", Math.floor(found.capacity), found.capacity < found.sources)),
  said.length ? element("ul", { class: "problems" }, ...said.map((line) => element("li", {}, line))) : "");
}

function streamRow({ name, node, state, detail, sounds, skipped, windows }) {
  const heard = sounds.length ? element("ul", { class: "sounds" }, ...sounds.map(({ label, onset }) => element("li", { title: timeOfDay(onset) }, words(label)))) : "–";
  const said = element("span", {}, badge(Object.hasOwn(KNOWN, state) ? state : "offline"), detail && !SOUND.includes(state) ? ` ${detail}` : "");
  return [name, node ?? "–", said, heard, windows ? `${number((100 * skipped) / windows, 1)} %` : "–"];
}

const KNOWN = Object.fromEntries(["starting", "hearing", "silent", "retrying", "off", "ended", "offline", "failed"].map((state) => [state, true]));

function workerRow({ node, host, online, streams, capacity, waiting, silent_s, drained, trouble }) {
  const isThere = streams !== undefined;
  const state = trouble ? "retrying" : isThere && online !== false ? "hearing" : "offline";
  const said = drained ? t("fleet.drained") : t(isThere && online !== false ? "nodes.online" : "nodes.offline");
  return [node, badge(state, said), ...(isThere ? [host || "–", number(streams), number(Math.floor(capacity)), number(waiting), duration(silent_s)] : ["–", "–", "–", "–", "–"])];
}

function latest(events) {
  find("latest-none").hidden = events.length > 0;
  put(find("latest"), ...[...events].reverse().map((event) => element("li", { class: event.offset ? "" : "open" },
    element("time", { dateTime: event.onset }, timeOfDay(event.onset)),
    element("strong", {}, words(event.label)),
    element("span", { class: "quiet" }, event.source),
    element("span", { class: "quiet last" }, event.offset ? duration(event.duration_s) : t("event.now"),
      ` · ${number(event.peak_score, 2)} · ${event.node}${event.cause ? ` · ${t(`event.${event.cause}`)}` : ""}`))));
  const fresh = known && events.filter(({ id }) => !known.has(id));
  known = new Set(events.map(({ id }) => id));
  const last = fresh?.at(-1);
  if (last) setText(find("announcer"), t("latest.announced", { label: words(last.label), source: last.source }));
}

function show(found) {
  setText(find("node"), found.fleet);
  document.title = `tagger ${found.fleet}`;
  sums(found);
  const names = found.nodes.map(({ node }) => node);
  if (names.join() !== [...worker.options].slice(1).map(({ value }) => value).join()) {
    const chosen = worker.value;
    worker.replaceChildren(new Option(t("fleet.anyWorker"), ""), ...names.map((name) => new Option(name, name)));
    worker.value = names.includes(chosen) ? chosen : "";
  }
  setText(count, t("fleet.count", { shown: found.streams.length, found: found.found, all: found.sources }));
  put(find("streams"), table("fleet.streams", ["fleet.stream", "fleet.worker", "health.state", "fleet.sounds", "fleet.skipped"], found.streams.map(streamRow)));
  more.hidden = found.streams.length >= found.found || limit >= MOST;
  put(find("workers"), table("fleet.workers", ["fleet.worker", "health.state", "fleet.host", "fleet.streams", "fleet.capacity", "fleet.waiting", "fleet.last"], found.nodes.map(workerRow)));
  latest(found.events);
}

/** Asks now, and again for as long as the page is seen. */
async function look() {
  clearTimeout(timer);
  const own = ++asked;
  const wish = new URLSearchParams({ find: sought.value, node: worker.value, amiss: Number(amiss.checked), sounding: Number(sounding.checked), limit });
  let wait = ASK_MS;
  try {
    const found = await ask(`api/fleet?${wish}`);
    if (own !== asked) return;
    show(found);
    connection.dataset.state = "live";
    setText(connection.lastElementChild, t("connection.live"));
  } catch {
    if (own !== asked) return;
    wait = AWAY_MS;
    connection.dataset.state = "away";
    setText(connection.lastElementChild, t("connection.away"));
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

find("streams").after(more);
find("workers-shown").open = matchMedia("(min-width: 64rem)").matches;
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
ask("api/me").then(({ login }) => { find("logout").hidden = !login; }).catch(() => null);
look();
