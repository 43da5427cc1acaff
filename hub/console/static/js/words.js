// How values read: statuses, types, dates in the utility's time zone, durations, money.

import { html } from "/static/vendor/lit/lit.js";
import { currency, now, timeZone } from "/static/console/js/context.js";

export const STATUSES = {
  held: "Held",
  ready: "Ready",
  assigned: "Assigned",
  en_route: "En route",
  on_site: "On site",
  paused: "Paused",
  completed: "Completed",
  unable: "Unable",
  cancelled: "Cancelled",
  closed: "Closed",
};
export const OPEN_STATUSES = ["held", "ready", "assigned", "en_route", "on_site", "paused"];

/** `some_code` as words: "Some code". */
export function words(code) {
  if (!code) return "";
  const text = String(code).replace(/[_-]+/g, " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export const icon = (name) =>
  html`<svg class="icon" aria-hidden="true"><use href="/static/console/icons.svg#${name}"></use></svg>`;

export const statusChip = (status) => html`<span class="chip ${status}">${icon(status)}${STATUSES[status] ?? words(status)}</span>`;

const formats = {
  time: new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", minute: "2-digit" }),
  day: new Intl.DateTimeFormat("en-GB", { timeZone, weekday: "short", day: "numeric", month: "short" }),
  full: new Intl.DateTimeFormat("en-GB", {
    timeZone, weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  }),
  key: new Intl.DateTimeFormat("en-CA", { timeZone, year: "numeric", month: "2-digit", day: "2-digit" }),
};

/** The local day of an instant as YYYY-MM-DD. */
export const dayKey = (instant) => formats.key.format(new Date(instant));

/** "14:30" today, "Tue 24 Nov, 14:30" on other days. */
export function moment(instant) {
  if (!instant) return "";
  const at = new Date(instant);
  const time = formats.time.format(at);
  return dayKey(at) === dayKey(now()) ? time : `${formats.day.format(at)}, ${time}`;
}

export const fullMoment = (instant) => (instant ? formats.full.format(new Date(instant)) : "");
export const timeOf = (instant) => formats.time.format(new Date(instant));

/** "in 2 h", "5 min ago": how far from the business clock, or from the wall's for what real machines did. */
export function distance(instant, from = now()) {
  const seconds = (Date.parse(instant) - from) / 1000;
  const size = Math.abs(seconds);
  const text =
    size < 45 ? "now"
    : size < 5400 ? `${Math.round(size / 60)} min`
    : size < 129600 ? `${Math.round(size / 3600)} h`
    : `${Math.round(size / 86400)} days`;
  if (text === "now") return text;
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

/** Money as the utility writes it; `amount` is a decimal string. */
export function money(amount, unit = currency) {
  if (amount === null || amount === undefined) return "";
  const figure = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(Number(amount));
  return `${figure} ${unit || currency}`.trim();
}

/** Whom an actor string names: "user:ann@example.org" → "ann@example.org", "crew:North" → "Crew North". */
export function actorName(actor) {
  if (!actor) return "";
  const [kind, ...rest] = String(actor).split(":");
  const name = rest.join(":");
  if (!name) return words(kind);
  return { user: name, crew: `Crew ${name}`, token: `Program ${name}`, source: `Billing (${name})` }[kind] ?? name;
}
