// A scrolling spectrogram: a ring of columns on a hidden canvas, which is drawn to the visible one with each frame.

const RING = 2048; // columns that are kept
const LATE_S = 0.3; // the drawn edge follows the newest column at this distance, so that it moves smoothly
export const PALETTES = {
  dark: [[14, 19, 25], [20, 42, 62], [26, 92, 108], [104, 170, 148], [243, 232, 196]],
  light: [[250, 249, 246], [214, 229, 228], [122, 176, 178], [40, 102, 124], [16, 34, 56]],
};
const still = matchMedia("(prefers-reduced-motion: reduce)");
export const dark = matchMedia("(prefers-color-scheme: dark)");

export function colours(stops) {
  const table = new Uint8ClampedArray(256 * 3);
  for (let value = 0; value < 256; value++) {
    const place = (value / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    for (let part = 0; part < 3; part++) {
      table[3 * value + part] = stops[low][part] + (place - low) * (stops[low + 1][part] - stops[low][part]);
    }
  }
  return table;
}

export class Spectrogram {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{bands: number, step_s: number}} shape
   */
  constructor(canvas, { bands, step_s }) {
    Object.assign(this, { canvas, bands, step: step_s });
    this.ring = document.createElement("canvas");
    this.ring.width = RING;
    this.ring.height = bands;
    this.pen = this.ring.getContext("2d");
    this.values = new Uint8Array(RING * bands); // shown values, column by column
    this.counts = new Float64Array(256); // how often each byte came lately
    this.low = 20;
    this.high = 130;
    this.newest = null; // number of the newest column
    this.edge = 0; // time at the right end, seconds since the epoch
    this.frame = 0; // time of the last frame, milliseconds
    this.events = new Map();
    this.repaint = () => this.#repaint();
    dark.addEventListener("change", this.repaint);
    this.#repaint();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(canvas);
  }

  close() {
    dark.removeEventListener("change", this.repaint);
    this.watcher.disconnect();
    cancelAnimationFrame(this.request);
  }

  /** Adds columns. @param {number} time of the first one @param {Uint8Array} bytes [columns, bands] */
  add(time, bytes) {
    const count = Math.floor(bytes.length / this.bands);
    if (!count) return;
    let first = Math.round(time / this.step);
    if (this.newest !== null) {
      const missing = first - this.newest - 1;
      if (missing < 0 && missing > -5) first = this.newest + 1; // its clock moved a little
      else if (missing < 0 || missing > RING) this.#clear();
      else if (missing > 2) for (let i = this.newest + 1; i < first; i++) this.#put(i, null);
      else first = this.newest + 1;
    }
    this.#learn(bytes);
    for (let i = 0; i < count; i++) this.#put(first + i, bytes.subarray(i * this.bands, (i + 1) * this.bands));
    this.#paint(first, count);
    this.newest = first + count - 1;
    const end = (this.newest + 1) * this.step;
    if (this.edge > end || end - this.edge > 1.5) this.edge = end - (still.matches ? 0 : LATE_S);
    if (still.matches) this.edge = end;
    this.#ask();
  }

  /** Notes an event, to be drawn from its onset to its offset. Times: milliseconds. */
  note({ id, label, onset, offset, source }) {
    this.events.set(id, { label, source, onset: Date.parse(onset) / 1000, offset: offset ? Date.parse(offset) / 1000 : null });
    if (this.events.size > 100) this.events.delete(this.events.keys().next().value);
    this.#ask();
  }

  #ask() {
    this.request ??= requestAnimationFrame((now) => this.#next(now));
  }

  #next(now) {
    this.request = null;
    const passed = Math.min((now - this.frame) / 1000, 0.2);
    this.frame = now;
    if (this.newest === null) return;
    const end = (this.newest + 1) * this.step;
    const behind = end - this.edge;
    if (!still.matches) this.edge = Math.min(end, this.edge + passed * (behind > LATE_S + 0.3 ? 1.3 : behind < 0.1 ? 0.8 : 1));
    this.draw();
    if (!still.matches && this.edge < end) this.#ask();
  }

  /** Follows how loud it is here: the softest fifth is the ground, the loudest the top. */
  #learn(bytes) {
    for (let i = 0; i < 256; i++) this.counts[i] *= 0.985;
    for (const byte of bytes) this.counts[byte] += 1;
    const total = this.counts.reduce((sum, count) => sum + count, 0);
    const at = (share) => {
      let sum = 0;
      for (let i = 0; i < 256; i++) if ((sum += this.counts[i]) >= share * total) return i;
      return 255;
    };
    const low = at(0.3);
    const high = Math.max(at(0.998), low + 90);
    const pace = this.newest === null ? 1 : 0.08;
    this.low += pace * (low - this.low);
    this.high += pace * (high - this.high);
  }

  #clear() {
    this.values.fill(0);
    this.newest = null;
    this.#repaint();
  }

  #put(column, bytes) {
    const at = (((column % RING) + RING) % RING) * this.bands;
    if (bytes === null) this.values.fill(0, at, at + this.bands);
    else {
      const scale = 255 / (this.high - this.low);
      for (let i = 0; i < this.bands; i++) {
        this.values[at + i] = Math.max(0, Math.min(255, (bytes[i] - this.low) * scale));
      }
    }
    if (bytes === null) this.#paint(column, 1);
  }

  #paint(first, count) {
    const image = this.pen.createImageData(1, this.bands);
    for (let i = 0; i < Math.min(count, RING); i++) {
      const column = (((first + i) % RING) + RING) % RING;
      for (let band = 0; band < this.bands; band++) {
        const value = this.values[column * this.bands + band];
        const pixel = 4 * (this.bands - 1 - band);
        image.data[pixel] = this.table[3 * value];
        image.data[pixel + 1] = this.table[3 * value + 1];
        image.data[pixel + 2] = this.table[3 * value + 2];
        image.data[pixel + 3] = 255;
      }
      this.pen.putImageData(image, column, 0);
    }
  }

  #repaint() {
    this.table = colours(PALETTES[dark.matches ? "dark" : "light"]);
    this.#paint(0, RING);
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d", { alpha: false });
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = `rgb(${this.table[0]},${this.table[1]},${this.table[2]})`;
    pen.fillRect(0, 0, width, height);
    const seconds = Math.max(10, Math.min(30, width / 32));
    if (this.newest !== null) this.#columns(pen, width, height, seconds);
    this.#events(pen, width, height, seconds);
  }

  #columns(pen, width, height, seconds) {
    const perColumn = (width * this.step) / seconds;
    const right = this.edge / this.step; // in columns, a fraction
    const left = Math.max(right - seconds / this.step, this.newest - RING + 2);
    let at = Math.floor(left);
    const last = Math.min(Math.ceil(right), this.newest + 1);
    while (at < last) {
      const place = ((at % RING) + RING) % RING;
      const count = Math.min(last - at, RING - place);
      pen.drawImage(this.ring, place, 0, count, this.bands, width - (right - at) * perColumn, 0, count * perColumn, height);
      at += count;
    }
  }

  #events(pen, width, height, seconds) {
    const style = getComputedStyle(this.canvas);
    const [line, paper] = [style.getPropertyValue("--event"), style.getPropertyValue("--event-paper")];
    const lanes = [];
    pen.font = "600 12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const event of this.events.values()) {
      const x = width - ((this.edge - event.onset) * width) / seconds;
      const end = event.offset === null ? width : width - ((this.edge - event.offset) * width) / seconds;
      if (end < -200 || x > width || this.newest === null) continue;
      const from = Math.max(x, -4);
      const to = Math.max(Math.min(end, width + 4), from + 3);
      pen.globalAlpha = 0.12;
      pen.fillStyle = line;
      pen.fillRect(from, 0, to - from, height);
      pen.globalAlpha = 1;
      pen.fillRect(from, 0, to - from, 3);
      if (x >= -2) pen.fillRect(x, 0, 1.5, height);
      const wide = pen.measureText(event.label).width + 14;
      const place = Math.min(Math.max(from, 4), width - wide - 4);
      let lane = lanes.findIndex((taken) => taken < place - 4);
      if (lane < 0) lane = lanes.push(0) - 1;
      if (end < 0 || lane > 4) continue;
      lanes[lane] = place + wide;
      pen.fillStyle = paper;
      pen.beginPath();
      pen.roundRect(place, 8 + lane * 23, wide, 19, 6);
      pen.fill();
      pen.fillStyle = line;
      pen.fillText(event.label, place + 7, 18 + lane * 23);
    }
  }
}
