// The view Health: what `tagger status` says, the other nodes of the broker, the last faults, and what doctor finds.

import { ask, element, setText, table } from "./dom.js";
import { duration, number, t, time } from "./lang.js";

const AGAIN_MS = 10_000; // other nodes and faults are asked for again
const EXAMINING_MS = 1_000;
const MANY_SOURCES = 6; // of more, only those are named that are not heard
const MOST_NAMED = 12;
const SIGNS = { ok: "✓", warn: "▲", fail: "✕" };
const SOUND = ["hearing", "off", "ended"]; // states in which nothing is amiss
const moment = time({ weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

const english = (text) => element("span", { lang: "en" }, text); // what the daemon itself says
const seconds = (from, to) => Math.max(0, (to - Date.parse(from)) / 1000);

const keys = (...names) => names.map((name) => `health.${name}`);

/** Each source of a node with its state; of many, only those that are not heard. */
function sourcesOf({ online, sources }) {
  if (online === false) return element("span", { class: "quiet" }, number(sources.length));
  const amiss = sources.filter(({ state }) => !SOUND.includes(state));
  const named = sources.length <= MANY_SOURCES ? sources : amiss.slice(0, MOST_NAMED);
  const others = sources.length - named.length;
  return element("ul", { class: "states" },
    ...named.map(({ source, state, detail, reason }) => {
      const made = element("li", { title: detail }, element("strong", {}, source), ` ${t(`state.${state}`)}`,
        reason && state !== "hearing" ? `: ${t(`reason.${reason}`)}` : "");
      made.dataset.state = state;
      return made;
    }),
    others ? element("li", {}, t(named.length ? "nodes.others" : "nodes.all", { count: others })) : null);
}

function nodeRow(node, now) {
  const state = node.online === null ? "unknown" : node.online ? "online" : "offline";
  const said = element("span", { class: "badge" }, t(`nodes.${state}`));
  said.dataset.state = node.online ? "hearing" : "retrying";
  return [node.node, said, node.since ? duration(seconds(node.since, now)) : "–", node.version ?? "–",
    node.verdict === null ? "–" : element("span", { title: node.problems.join("\n") }, t(`health.${node.verdict}`)), sourcesOf(node)];
}

/** A card with a heading, a line that says how it is, and content. */
function card(title, ...content) {
  return element("section", { class: "card" }, element("h2", {}, t(title)), ...content);
}

export class Health {
  /** @param {Promise<string[]>} rights what whoever looks may do */
  constructor(section, rights) {
    this.section = section;
    this.rights = rights;
    this.verdict = element("h2", { class: "verdict" });
    this.problems = element("ul", { class: "problems" });
    this.tables = element("div", { class: "tables" });
    this.logout = element("form", { method: "post", action: "logout", hidden: true }, element("button", { type: "submit" }, t("health.logout")));
    this.nodesSaid = element("p", { class: "quiet" });
    this.nodes = element("div");
    this.faultsSaid = element("p", { class: "quiet" });
    this.faults = element("div");
    this.examine = element("button", { type: "button", onclick: () => this.#examine() }, t("doctor.start"));
    this.examined = element("p", { class: "quiet", role: "status" });
    this.findings = element("ul", { class: "findings" });
    const owners = [card("faults.title", this.faultsSaid, this.faults),
      card("doctor.title", element("p", { class: "quiet" }, t("doctor.what")), this.examine, this.examined, this.findings)];
    for (const each of owners) each.dataset.needs = "set";
    section.replaceChildren(element("div", { class: "card" }, this.verdict, this.problems, this.tables, this.logout),
      card("nodes.title", this.nodesSaid, this.nodes), ...owners);
  }

  async load() {
    this.section.setAttribute("aria-busy", "true");
    try {
      this.health(await ask("api/health"));
    } catch (error) {
      setText(this.verdict, t("health.failed", { problem: error.message }));
    }
    this.mayRead = (await this.rights).includes("set");
    await this.#others();
    if (this.mayRead) await this.#look();
    this.section.removeAttribute("aria-busy");
  }

  health(found) {
    setText(this.verdict, t(`health.${found.verdict}`));
    this.verdict.dataset.verdict = found.verdict;
    const said = found.problems.join("\n");
    if (said !== this.said) {
      this.said = said;
      this.problems.replaceChildren(...found.problems.map((line) => element("li", {}, line)));
    }
    const now = Date.parse(found.time);
    const { process } = found;
    const sources = Object.entries(found.sources).map(([name, each]) => [name, t(`state.${each.state}`),
      duration(seconds(each.since, now)),
      each.rms_dbfs === null ? "–" : `${Math.round(each.rms_dbfs)} dBFS`,
      number(each.windows), number(each.skipped),
      each.latency_ms === null ? "–" : `${Math.round(each.latency_ms.p50)} ms`, each.reconnects]);
    const sinks = Object.entries(found.sinks).map(([name, each]) => [name, each.trouble ?? t("health.works"), number(each.waiting), number(each.dropped)]);
    this.tables.replaceChildren(...[
      table("health.sources", keys("source", "state", "since", "level", "windows", "skipped", "latency", "reconnects"), sources),
      sinks.length ? table("health.sinks", keys("sink", "state", "waiting", "dropped"), sinks) : null,
      table("health.process", keys("node", "up", "memory", "processor", "threads", "version"), [[found.node, duration(found.uptime_s),
        process.resident_mb === null ? "–" : `${Math.round(process.resident_mb)} MB`, duration(process.cpu_s), process.threads, found.version]])].filter(Boolean));
  }

  /** Asks for other nodes and faults, now and again for as long as the view is shown. */
  async #others() {
    clearTimeout(this.timer);
    await Promise.all([this.#ask("nodes", this.nodesSaid, (found) => this.#showNodes(found)),
      this.mayRead ? this.#ask("faults", this.faultsSaid, (found) => this.#showFaults(found)) : null]);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!this.section.hidden && !document.hidden) this.#others();
    }, AGAIN_MS);
  }

  async #ask(what, line, show) {
    try {
      show(await ask(`api/${what}`));
    } catch (error) {
      setText(line, t("health.failed", { problem: error.message }));
    }
  }

  #showNodes({ broker, trouble, more, nodes }) {
    const said = broker === null ? t("nodes.noBroker") : trouble !== null ? t("nodes.away", { broker, trouble })
      : nodes.length ? t("nodes.count", { count: nodes.length, broker }) : t("nodes.none", { broker });
    setText(this.nodesSaid, more || nodes.some((each) => each.more) ? `${said} ${t("nodes.more")}` : said);
    const now = Date.now();
    this.nodes.replaceChildren(...(nodes.length ? [table("health.nodes", keys("node", "state", "since", "version", "how", "sources"), nodes.map((each) => nodeRow(each, now)))] : []));
  }

  #showFaults({ faults }) {
    setText(this.faultsSaid, faults.length ? t("faults.count", { count: faults.length }) : t("faults.none"));
    const rows = faults.map(({ first, last, times, about, said, advice }) => [
      element("time", { dateTime: last, title: last }, moment.format(new Date(last))), about || "–", english(said), advice ? english(advice) : "–",
      times === 1 ? "1" : t("faults.times", { count: times, since: moment.format(new Date(first)) })]);
    this.faults.replaceChildren(...(rows.length ? [table("health.faults", keys("time", "about", "said", "advice", "times"), rows)] : []));
  }

  async #examine() {
    this.examine.disabled = true;
    try {
      this.#showExamination(await ask("api/doctor", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }));
    } catch (error) {
      this.examine.disabled = false;
      setText(this.examined, t("health.failed", { problem: error.message }));
    }
  }

  async #look() {
    try {
      this.#showExamination(await ask("api/doctor"));
    } catch { /* this daemon has no doctor; the button says so */ }
  }

  #showExamination({ running, ended, findings }) {
    this.examine.disabled = running;
    const amiss = findings.filter(({ state }) => state !== "ok").length;
    setText(this.examined, running ? t("doctor.running") : ended === null ? ""
      : t(amiss ? "doctor.amiss" : "doctor.well", { count: amiss, time: moment.format(new Date(ended)) }));
    this.findings.replaceChildren(...findings.map(({ about, state, said, advice }) => {
      const made = element("li", {}, element("span", { class: "sign", role: "img", "aria-label": t(`doctor.${state}`) }, SIGNS[state]),
        element("strong", { lang: "en" }, about), english(said), advice && state !== "ok" ? element("span", { lang: "en", class: "advice" }, advice) : null);
      made.dataset.state = state;
      return made;
    }));
    clearTimeout(this.examining);
    if (running) this.examining = setTimeout(() => this.#look(), EXAMINING_MS);
  }
}
