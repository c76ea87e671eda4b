// The view Health: what `tagger status` says.

import { ask, element, setText } from "./dom.js";
import { duration, number, t } from "./lang.js";

function table(caption, names, rows) {
  return element("table", { class: "list wide" },
    element("caption", {}, t(`health.${caption}`)),
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, t(`health.${name}`))))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => {
      const made = element(i ? "td" : "th", { scope: i ? null : "row" }, String(cell));
      made.dataset.name = t(`health.${names[i]}`);
      return made;
    })))));
}

export class Health {
  constructor(section) {
    this.verdict = element("h2", { class: "verdict" });
    this.problems = element("ul", { class: "problems" });
    this.tables = element("div", { class: "tables" });
    this.logout = element("form", { method: "post", action: "logout", hidden: true }, element("button", { type: "submit" }, t("health.logout")));
    section.replaceChildren(element("div", { class: "card" }, this.verdict, this.problems, this.tables, this.logout));
  }

  async load() {
    try {
      this.health(await ask("api/health"));
    } catch (error) {
      setText(this.verdict, t("health.failed", { problem: error.message }));
    }
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
      duration(Math.max(0, (now - Date.parse(each.since)) / 1000)),
      each.rms_dbfs === null ? "–" : `${Math.round(each.rms_dbfs)} dBFS`,
      number(each.windows), number(each.skipped),
      each.latency_ms === null ? "–" : `${Math.round(each.latency_ms.p50)} ms`, each.reconnects]);
    const sinks = Object.entries(found.sinks).map(([name, each]) => [name, each.trouble ?? t("health.works"), number(each.waiting), number(each.dropped)]);
    this.tables.replaceChildren(...[
      table("sources", ["source", "state", "since", "level", "windows", "skipped", "latency", "reconnects"], sources),
      sinks.length ? table("sinks", ["sink", "state", "waiting", "dropped"], sinks) : null,
      table("process", ["node", "up", "memory", "processor", "threads", "version"], [[found.node, duration(found.uptime_s),
        process.resident_mb === null ? "–" : `${Math.round(process.resident_mb)} MB`, duration(process.cpu_s), process.threads, found.version]])].filter(Boolean));
  }
}
