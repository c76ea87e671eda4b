// The level of a source over the last hour: a line of its own on a small canvas. A library for plots would be more than the whole
// page beside it, for two lines and a grid.

import { setText } from "./dom.js";
import { number, t, timeOfDay } from "./lang.js";
import { dark } from "./spectrogram.js";

const LONGEST_S = 3600;
const SPANS_S = [300, 600, 1200, 1800, LONGEST_S]; // the shortest that holds all is shown
const STEP_S = 10; // levels of this length are joined
const LOWEST_DB = -80;
const GRID_DB = [-60, -40, -20];
const DRAW_MS = 2000; // between two drawings

export class LevelPlot {
  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} line says what is below the pointer */
  constructor(canvas, line, name) {
    Object.assign(this, { canvas, line, name });
    this.points = []; // [time, RMS, peak], seconds and dBFS, the oldest first
    this.drawn = 0;
    this.repaint = () => this.draw();
    dark.addEventListener("change", this.repaint);
    this.watcher = new ResizeObserver(this.repaint);
    this.watcher.observe(canvas);
    canvas.addEventListener("pointermove", ({ offsetX }) => this.#point(offsetX));
    canvas.addEventListener("pointerleave", () => this.draw());
  }

  close() {
    dark.removeEventListener("change", this.repaint);
    this.watcher.disconnect();
  }

  /** Takes what was measured before the page looked. */
  set(points) {
    const after = points.at(-1)?.[0] ?? 0;
    this.points = [...points, ...this.points.filter(([time]) => time > after)];
    this.draw();
  }

  add(time, rms, peak) {
    const last = this.points.at(-1);
    if (last && last[3] && time - last[3] < STEP_S) {
      last[0] = time;
      last[1] = 10 * Math.log10((last[4] * 10 ** (last[1] / 10) + 10 ** (rms / 10)) / (last[4] + 1));
      last[2] = Math.max(last[2], peak);
      last[4] += 1;
    } else this.points.push([time, rms, peak, time, 1]); // where it began, and how many were joined
    while (this.points.length && this.points[0][0] < time - LONGEST_S) this.points.shift();
    if (Date.now() - this.drawn > DRAW_MS) this.draw();
  }

  /** What is at a place of the plot. */
  #point(x) {
    const at = this.end - this.span * (1 - x / this.canvas.clientWidth);
    const found = this.points.reduce((best, each) => (!best || Math.abs(each[0] - at) < Math.abs(best[0] - at) ? each : best), null);
    if (found) setText(this.line, t("level.at", { time: timeOfDay(found[0] * 1000), rms: number(found[1], 0), peak: number(found[2], 0) }));
  }

  draw() {
    const { canvas, points } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    this.drawn = Date.now();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    const y = (decibels) => height * Math.max(0, Math.min(1, decibels / LOWEST_DB));
    pen.fillStyle = colour("--track");
    for (const decibels of GRID_DB) pen.fillRect(0, Math.round(y(decibels)), width, 1);
    for (let quarter = 1; quarter < 4; quarter++) pen.fillRect(Math.round((width * quarter) / 4), 0, 1, height);
    if (!points.length) return;
    this.end = points.at(-1)[0];
    this.span = SPANS_S.find((span) => span >= this.end - points[0][0]) ?? LONGEST_S;
    const minutes = this.span / 60;
    if (!canvas.matches(":hover")) setText(this.line, t("time.minutes", { min: minutes }));
    const x = (time) => width * (1 - (this.end - time) / this.span);
    points.forEach(([time, rms, peak], i) => {
      const before = points[i - 1]?.[0] ?? time - STEP_S;
      const from = x(time - before > 3 * STEP_S ? time - STEP_S : before); // where nothing was measured, nothing is drawn
      const wide = Math.max(1, x(time) - from);
      pen.fillStyle = colour("--level-soft");
      pen.fillRect(from, y(peak), wide, height - y(peak));
      pen.fillStyle = colour("--accent");
      pen.fillRect(from, y(rms) - 1, wide, 2);
    });
    const all = points.map(([, rms]) => rms);
    canvas.setAttribute("aria-label", t("level.span", { name: this.name, minutes, low: number(Math.min(...all), 0), high: number(Math.max(...all), 0) }));
  }
}
