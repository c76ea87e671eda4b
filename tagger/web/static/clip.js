// A saved clip: its spectrogram, which the daemon computes, and its sound.

import { ask, element, setText } from "./dom.js";
import { number, t, timeOfDay, words } from "./lang.js";
import { PALETTES, colours, dark } from "./spectrogram.js";

const clipPath = (id) => `api/clips/${encodeURIComponent(id)}`;

export class ClipPlayer {
  constructor() {
    this.audio = element("audio", { preload: "none" });
    this.button = element("button", { type: "button", class: "main play", onclick: () => this.toggle() }, t("clip.play"));
    this.clock = element("span", { class: "quiet decibels" });
    this.note = element("p", { class: "quiet", role: "status", hidden: true });
    this.save = element("a", { class: "quiet save", hidden: true }, t("clip.save"));
    this.canvas = element("canvas", { role: "img", onclick: (press) => this.#from(press) });
    this.node = element("div", { class: "player" },
      element("div", { class: "picture still" }, this.canvas),
      element("div", { class: "meter" }, this.button, this.clock, this.save),
      this.note, this.audio);
    this.clip = null;
    this.picture = null;
    for (const kind of ["play", "pause", "ended", "timeupdate"]) this.audio.addEventListener(kind, () => this.#tell());
    this.audio.addEventListener("error", () => { if (this.clip && this.audio.src) this.#say(t("clip.unheard")); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    dark.addEventListener("change", () => { this.image = null; this.draw(); });
  }

  /** Shows a clip. @param {{id: string, label: string, onset: string, offset: string, clip_onset?: string}} clip */
  async show(clip) {
    if (this.clip?.id === clip.id) return;
    this.stop();
    Object.assign(this, { clip, picture: null, image: null });
    this.audio.src = clipPath(clip.id);
    this.save.href = `${clipPath(clip.id)}?download`;
    this.save.hidden = false;
    this.note.hidden = true;
    this.canvas.setAttribute("aria-label", t("clip.picture", { label: words(clip.label) }));
    this.draw();
    try {
      const picture = await ask(`${clipPath(clip.id)}/spectrogram`);
      if (this.clip?.id !== clip.id) return;
      picture.values = Uint8Array.from(atob(picture.data), (letter) => letter.charCodeAt(0));
      this.picture = picture;
    } catch (error) {
      if (this.clip?.id === clip.id) this.#say(t("clip.gone", { why: error.message }));
    }
    this.draw();
    this.#tell();
  }

  async toggle() {
    if (!this.clip) return;
    if (!this.audio.paused) this.audio.pause();
    else await this.play();
  }

  async play() {
    await this.audio.play().catch(() => {}); // "error" says why, or another clip has come meanwhile
  }

  stop() {
    this.audio.pause();
    if (this.audio.readyState > 0) this.audio.currentTime = 0;
  }

  #from(press) {
    if (!this.picture) return;
    this.audio.currentTime = (press.offsetX / this.canvas.clientWidth) * this.picture.seconds;
    this.play();
  }

  #say(text) {
    setText(this.note, text);
    this.note.hidden = false;
  }

  #tell() {
    setText(this.button, this.audio.paused ? t("clip.play") : t("clip.stop"));
    const seconds = this.picture?.seconds ?? 0;
    setText(this.clock, seconds ? t("clip.at", { at: number(this.audio.currentTime, 1), seconds: number(seconds, 1) }) : "");
    this.#follow();
  }

  #follow() {
    this.draw();
    if (!this.audio.paused) this.request ??= requestAnimationFrame(() => { this.request = null; this.#follow(); });
  }

  /** Draws bytes to an image of one pixel each, from the softest fifth to the loudest. */
  #made() {
    const { bands, values } = this.picture;
    const count = values.length / bands;
    const sorted = Uint8Array.from(values).sort();
    const low = sorted[Math.floor(0.3 * sorted.length)];
    const high = Math.max(sorted[Math.floor(0.998 * (sorted.length - 1))], low + 90);
    const table = colours(PALETTES[dark.matches ? "dark" : "light"]);
    const made = document.createElement("canvas");
    made.width = count;
    made.height = bands;
    const pen = made.getContext("2d");
    const image = pen.createImageData(count, bands);
    for (let column = 0; column < count; column++) {
      for (let band = 0; band < bands; band++) {
        const value = Math.max(0, Math.min(255, Math.round(((values[column * bands + band] - low) * 255) / (high - low))));
        const pixel = 4 * ((bands - 1 - band) * count + column);
        for (let part = 0; part < 3; part++) image.data[pixel + part] = table[3 * value + part];
        image.data[pixel + 3] = 255;
      }
    }
    pen.putImageData(image, 0, 0);
    return made;
  }

  draw() {
    const { canvas, picture } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d", { alpha: false });
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const ground = PALETTES[dark.matches ? "dark" : "light"][0];
    pen.fillStyle = `rgb(${ground})`;
    pen.fillRect(0, 0, width, height);
    if (!picture) return;
    this.image ??= this.#made();
    const at = (seconds) => (seconds * width) / picture.seconds;
    pen.drawImage(this.image, at(picture.begin_s - picture.step_s / 2), 0, at(this.image.width * picture.step_s), height);
    const style = getComputedStyle(canvas);
    pen.fillStyle = style.getPropertyValue("--event");
    if (this.clip.clip_onset) {
      const begin = (Date.parse(this.clip.onset) - Date.parse(this.clip.clip_onset)) / 1000;
      const end = (Date.parse(this.clip.offset) - Date.parse(this.clip.clip_onset)) / 1000;
      pen.globalAlpha = 0.1;
      pen.fillRect(at(begin), 0, at(end - begin), height);
      pen.globalAlpha = 1;
      pen.fillRect(at(begin), 0, at(end - begin), 3);
      pen.fillRect(at(begin), 0, 1.5, height);
    }
    if (!this.audio.paused || this.audio.currentTime > 0) {
      pen.fillStyle = style.getPropertyValue("--ink");
      pen.fillRect(at(this.audio.currentTime) - 1, 0, 2, height);
    }
  }
}

let dialog = null;

/** Shows an event's clip above the page, and plays it. */
export function openClip(event) {
  if (!dialog) {
    const player = new ClipPlayer();
    const title = element("h2", { id: "clip-title" });
    const close = element("button", { type: "button", onclick: () => dialog.node.close() }, t("clip.close"));
    const node = element("dialog", { class: "card clip", "aria-labelledby": "clip-title", onclose: () => player.stop() },
      element("header", {}, title, close), player.node);
    document.body.append(node);
    dialog = { node, player, title };
  }
  setText(dialog.title, `${words(event.label)} · ${event.source} · ${timeOfDay(event.onset)}`);
  dialog.node.showModal();
  dialog.player.show(event);
  dialog.player.play();
}

/** A button that plays an event's clip; null where none was kept. */
export function clipButton(event) {
  if (!event.clip) return null;
  return element("button", { type: "button", class: "small", "data-needs": "hear", "aria-label": t("clip.playEvent", { label: words(event.label), time: timeOfDay(event.onset) }),
    onclick: () => openClip(event) }, "▶");
}
