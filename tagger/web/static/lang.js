// The language of the page: texts, names of labels, numbers and times. Each language is a file in lang/, languages.js lists them.

import { LANGUAGES } from "./languages.js";

const KEPT = "tagger.language";

/** The language that was chosen here, else the first of the browser's that there is. */
function wanted() {
  let kept = null;
  try {
    kept = localStorage.getItem(KEPT);
  } catch { /* storage is forbidden here */ }
  const found = [kept, ...navigator.languages].filter(Boolean).map((tag) => [tag, tag.split("-")[0]]).flat();
  return found.find((tag) => Object.hasOwn(LANGUAGES, tag)) ?? "en";
}

export const language = wanted();
const { page, reasons, labels } = await fetch(new URL(`lang/${language}.json`, import.meta.url)).then((answer) => answer.json())
  .catch(() => ({ page: {}, reasons: {}, labels: {} }));
const plurals = new Intl.PluralRules(language);
const whole = new Intl.NumberFormat(language);
const locale = navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language; // en-GB has other times than en-US
const clock = time({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const forms = [];

/** Keeps another language, and shows the page in it. */
export function choose(tag) {
  try {
    localStorage.setItem(KEPT, tag);
  } catch { /* it holds until the page is closed */ }
  location.reload();
}

/** A text of the page. `{name}` in it stands for a value; `count` chooses singular or plural. */
export function t(key, values = {}) {
  const text = page[key] ?? page[`${key}.${plurals.select(values.count ?? 0)}`] ?? page[`${key}.other`] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => (Object.hasOwn(values, name) ? shown(values[name]) : all));
}

const shown = (value) => (typeof value === "number" ? number(value) : String(value));

/** A label for people. Those without a name in this language, as AudioSet's, keep the words that they have. */
export function words(label) {
  return Object.hasOwn(labels, label) ? labels[label] : label.replaceAll("_", " ");
}

/** Why a label is not announced. The daemon says it in English; what is not known here stays so. */
export function reason(text) {
  if (!forms.length) {
    const escaped = (form) => form.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\\\{\w+\\\}/g, "(.+)");
    for (const [form, said] of Object.entries(reasons)) {
      forms.push([new RegExp(`^${escaped(form)}$`), [...form.matchAll(/\{(\w+)\}/g)].map((found) => found[1]), said]);
    }
  }
  for (const [form, names, said] of forms) {
    const found = form.exec(text);
    if (found) {
      return said.replace(/\{(\w+)\}/g, (all, name) => {
        const value = found[1 + names.indexOf(name)];
        return name === "label" ? words(value) : number(value);
      });
    }
  }
  return text;
}

/** A formatter of times. */
export function time(options) {
  return new Intl.DateTimeFormat(locale, options);
}

/** The local time of day of an ISO time. */
export function timeOfDay(iso) {
  return clock.format(new Date(iso));
}

/** A number: whole ones with separators, or with some digits after the point. */
export function number(value, digits) {
  if (typeof value === "string") {
    const after = value.split(".")[1]?.length ?? 0;
    return Number.isFinite(Number(value)) ? number(Number(value), after) : value;
  }
  if (!digits) return whole.format(digits === 0 ? Math.round(value) : value);
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A length of time, such as `3.2 s` or `2 min 5 s`. */
export function duration(seconds) {
  if (seconds < 10) return t("time.seconds", { s: number(seconds, 1) });
  const all = Math.round(seconds);
  if (all < 60) return t("time.seconds", { s: all });
  const [min, s] = [Math.floor(all / 60), all % 60];
  if (min < 60) return s ? t("time.minutesSeconds", { min, s }) : t("time.minutes", { min });
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? t("time.hoursMinutes", { h, min: min % 60 }) : t("time.hours", { h });
  return t("time.days", { d: Math.floor(h / 24), h: h % 24 });
}

/** Fills the texts of a document: those of elements with `data-t`, and of attributes that `data-t-ATTRIBUTE` names. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

/** The element in which another language is chosen. */
export function chooser(select) {
  for (const [tag, name] of Object.entries(LANGUAGES)) {
    const option = new Option(name, tag, false, tag === language);
    option.lang = tag;
    select.add(option);
  }
  select.addEventListener("change", () => choose(select.value));
}
