// The page: which view is shown, and the one stream that feeds it.

import { ask, setText } from "./dom.js";
import { Day } from "./day.js";
import { Health } from "./health.js";
import { chooser, t, translate, words } from "./lang.js";
import { Now } from "./now.js";
import { Review } from "./review.js";
import { Thresholds } from "./thresholds.js";

const VIEWS = ["now", "day", "review", "thresholds", "health"];
const HIDDEN_MS = 20_000; // a page that nobody sees for so long is fed no more
const AGAIN_MS = 2_000;
const SETTLE_MS = 400; // sources that scroll past are not asked for

translate();
chooser(document.getElementById("language"));
const now = new Now(() => settle());
const day = new Day(document.getElementById("day"));
const review = new Review(document.getElementById("review"));
const thresholds = new Thresholds(document.getElementById("thresholds"));
const rights = ask("api/me").then((me) => me.rights).catch(() => []);
const health = new Health(document.getElementById("health"), rights);
const connection = document.getElementById("connection");
const announcer = document.getElementById("announcer");
let stream = null;
let fed = null; // columns that the stream was asked for
let timer = 0;
let view = "now";

function say(state, text = state) {
  connection.dataset.state = state;
  setText(connection.lastElementChild, t(`connection.${text}`));
}

function wanted() {
  return view === "now" ? now.wanted.join(",") : "";
}

function settle() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (wanted() !== fed) open();
  }, SETTLE_MS);
}

function close() {
  clearTimeout(timer);
  stream?.close();
  stream = null;
  fed = null;
}

function open() {
  close();
  if (document.hidden) return;
  fed = wanted();
  const opened = (stream = new EventSource(`api/live?columns=${encodeURIComponent(fed)}`));
  const on = (kind, act) => opened.addEventListener(kind, (message) => act(JSON.parse(message.data)));
  on("hello", (found) => {
    const wasAway = connection.dataset.state === "away";
    say("live");
    setText(document.getElementById("node"), found.health.node);
    document.title = `tagger ${found.health.node}`;
    health.logout.hidden = !found.login;
    now.hello(found);
    if (wasAway) now.catchUp();
    health.health(found.health);
    if (wanted() !== fed) settle();
  });
  on("health", (found) => {
    now.health(found);
    if (view === "health") health.health(found);
  });
  on("level", (level) => now.level(level));
  on("scores", (scores) => now.scores(scores));
  on("columns", (columns) => now.columns(columns));
  on("event", (event) => {
    now.event(event);
    if (event.type === "begin") setText(announcer, t("latest.announced", { label: words(event.label), source: event.source }));
  });
  opened.addEventListener("error", () => {
    if (stream !== opened) return;
    say("away");
    if (opened.readyState !== EventSource.CLOSED) return;
    close();
    timer = setTimeout(async () => {
      await ask("api/health").catch(() => null); // leads to the login where that is what is missing
      open();
    }, AGAIN_MS);
  });
}

function show() {
  const asked = location.hash.slice(1);
  if (asked === "main") return;
  view = VIEWS.includes(asked) ? asked : "now";
  for (const name of VIEWS) document.getElementById(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "day") day.load();
  if (view === "review") review.load();
  else review.leave();
  if (view === "thresholds") thresholds.load();
  if (view === "health") health.load();
  if (stream) settle();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !stream) open();
  else if (document.hidden) timer = setTimeout(() => { close(); say("away", "resting"); }, HIDDEN_MS);
});
window.addEventListener("hashchange", show);
rights.then((found) => { document.documentElement.dataset.may = found.join(" "); }); // the style hides what needs another right
show();
open();
