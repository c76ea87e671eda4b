// The view Health: what `tagger status` says.

import { ask, duration, element, setText } from "./dom.js";

const VERDICTS = { ok: "All is well", degraded: "Something is amiss", failing: "Nothing is heard" };

function table(caption, names, rows) {
  return element("table", { class: "list wide" },
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => {
      const made = element(i ? "td" : "th", { scope: i ? null : "row" }, String(cell));
      made.dataset.name = names[i];
      return made;
    })))));
}

export class Health {
  constructor(section) {
    this.verdict = element("h2", { class: "verdict" });
    this.problems = element("ul", { class: "problems" });
    this.tables = element("div", { class: "tables" });
    this.logout = element("form", { method: "post", action: "logout", hidden: true }, element("button", { type: "submit" }, "Log out"));
    section.replaceChildren(element("div", { class: "card" }, this.verdict, this.problems, this.tables, this.logout));
  }

  async load() {
    try {
      this.health(await ask("api/health"));
    } catch (error) {
      setText(this.verdict, `No answer: ${error.message}`);
    }
  }

  health(found) {
    setText(this.verdict, VERDICTS[found.verdict] ?? found.verdict);
    this.verdict.dataset.verdict = found.verdict;
    const said = found.problems.join("\n");
    if (said !== this.said) {
      this.said = said;
      this.problems.replaceChildren(...found.problems.map((line) => element("li", {}, line)));
    }
    const now = Date.parse(found.time);
    const { process } = found;
    const sources = Object.entries(found.sources).map(([name, each]) => [name, each.state,
      duration(Math.max(0, (now - Date.parse(each.since)) / 1000)),
      each.rms_dbfs === null ? "–" : `${Math.round(each.rms_dbfs)} dBFS`,
      each.windows.toLocaleString(), each.skipped.toLocaleString(),
      each.latency_ms === null ? "–" : `${Math.round(each.latency_ms.p50)} ms`, each.reconnects]);
    const sinks = Object.entries(found.sinks).map(([name, each]) => [name, each.trouble ?? "works", each.waiting, each.dropped]);
    this.tables.replaceChildren(...[
      table("Sources", ["Source", "State", "Since", "Level", "Windows", "Skipped", "Latency", "Came back"], sources),
      sinks.length ? table("Receivers of events", ["Receiver", "State", "Waiting", "Dropped"], sinks) : null,
      table("Process", ["Node", "Up", "Memory", "Processor", "Threads", "Version"], [[found.node, duration(found.uptime_s),
        process.resident_mb === null ? "–" : `${Math.round(process.resident_mb)} MB`, duration(process.cpu_s), process.threads, found.version]])].filter(Boolean));
  }
}
