// One order: what it is, why it waits, what may be done with it, and its append-only timeline.

import { html, nothing } from "/static/vendor/lit/lit.js";
import { crewName, titleOf, verbsOf } from "/static/console/js/orders.js";
import { actorName, distance, fullMoment, icon, moment, money, statusChip, words } from "/static/console/js/words.js";

const LABELS = {
  assign: "Assign…",
  unassign: "Take back",
  hold: "Hold…",
  release: "Release",
  cancel: "Cancel…",
  reopen: "Reopen…",
  complete: "Complete…",
  unable: "Could not be done…",
  told: "Crew was told by radio",
};

function reasons(order) {
  if (order.status !== "held" || !(order.reasons?.length || order.earliest_at)) return nothing;
  return html`<section class="why" aria-label="Why it is held">
    <h3>${icon("held")}Held${order.earliest_at ? html`, not before <time datetime=${order.earliest_at}>${moment(order.earliest_at)}</time>` : ""}</h3>
    <ul>${(order.reasons ?? []).map((reason) => html`<li>${reason.text || words(reason.code)}
      ${reason.citation ? html`<span class="cite">${reason.citation}</span>` : ""}</li>`)}</ul>
  </section>`;
}

function takenBack(order, crew) {
  const flag = order.cancel_requested ?? (order.withdrawal && !order.withdrawal.confirmed ? order.withdrawal : null);
  if (!flag) return nothing;
  const phone = order.crew_phone ?? crew?.phone;
  return html`<section class="why taken-back" role="alert">
    <h3>${icon("alert")}${order.cancel_requested ? "Taken back while the crew is out" : "Taken back; the crew may not know yet"}</h3>
    <p>${flag.reason ? words(flag.reason) : "It is no longer wanted."} Until the crew's device confirms, call crew ${crewName(order)}:
      ${phone ? html`<a class="phone" href="tel:${phone}">${icon("phone")}${phone}</a>` : "no phone number is known"}.</p>
  </section>`;
}

function facts(order, crew) {
  const rows = [
    ["Place", order.service_point ? html`<a href="/places/${encodeURIComponent(order.service_point)}">${order.address || order.service_point}</a>` : order.address || "Position on the map"],
    ["Account", order.account ? html`<a href="/accounts/${encodeURIComponent(order.account)}">${order.customer || order.account}</a>` : null],
    ["Meter", order.meter],
    ["Zone", order.zone],
    ["Crew", crewName(order) ? html`${crewName(order)}${crew?.phone ? html` · <a href="tel:${crew.phone}">${crew.phone}</a>` : ""}` : null],
    ["Phone", order.phone ? html`<a href="tel:${order.phone}">${order.phone}</a>` : null],
    ["Amount due", order.amount_due ? money(order.amount_due, order.currency) : order.balance_band],
    ["Appointment", order.appointment?.from ? html`${moment(order.appointment.from)}${order.appointment.to ? html` to ${moment(order.appointment.to)}` : ""}` : null],
    ["Not before", order.not_before ? fullMoment(order.not_before) : null],
    ["Due", order.due_by ? html`${fullMoment(order.due_by)} <span class="muted">${distance(order.due_by)}</span>` : null],
    ["Reference", order.reference],
    ["Note", order.note],
  ];
  return html`<dl class="facts">${rows.filter(([, value]) => value).map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>`;
}

// a register as it was read, with its unit and how; of other groups of answers the values one after the other
const reading = ({ value, unit, how }) => [`${value}${unit ? ` ${unit === "m3" ? "m³" : unit}` : ""}`, how && words(how).toLowerCase()].filter(Boolean).join(", ");
const plain = (value) => (value?.value !== undefined ? reading(value) : value && typeof value === "object" ? Object.values(value).filter((one) => typeof one !== "object").join(" ") : value === true ? "yes" : value === false ? "no" : String(value));

function result(order) {
  const done = order.completion;
  if (!done) return nothing;
  const answers = { ...(done.answers ?? {}) };
  const code = done.code ?? answers.code;
  delete answers.code;
  return html`<section class="block" aria-label="Result"><h3>Result</h3>
    <dl class="facts"><dt>Result</dt><dd>${words(code)}</dd>
      ${Object.entries(answers).map(([name, value]) => html`<dt>${words(name)}</dt><dd>${plain(value)}</dd>`)}
      ${done.via ? html`<dt>Told</dt><dd>${done.via === "paper" ? "on paper" : done.via === "radio" ? "by radio" : `by ${done.via}`}</dd>` : ""}</dl></section>`;
}

function exceptions(order, host) {
  const open = (order.exceptions ?? []).filter((one) => !one.resolved_at);
  if (!open.length) return nothing;
  return html`<section class="why taken-back" aria-label="To look at"><h3>${icon("alert")}Somebody has to look at this</h3>
    ${open.map((one) => html`<p>${one.text}
      ${host.mayDispatch ? html`<button class="button" @click=${() => host.settle(one)}>Say how it was settled…</button>` : ""}</p>`)}</section>`;
}

function charges(order) {
  if (!order.charges?.length) return nothing;
  return html`<section class="block" aria-label="Invoice lines"><h3>Invoice lines</h3>
    <ul class="charges">${order.charges.map((line) => html`<li><span>${words(line.code)}${line.reverses ? html` <span class="chip">Reversal</span>` : ""}</span>
      <span class="number">${money(line.amount, line.currency)}</span></li>`)}</ul></section>`;
}

const shown = (value) =>
  /^\d{4}-\d\d-\d\dT/.test(value) ? moment(value) : /^[a-z]+(_[a-z]+)+$/.test(value) ? words(value).toLowerCase() : value;

// keys of rows and actors say nothing to a person; the line has its actor already
const MACHINE_WORD = /^([0-9a-f]{8}-[0-9a-f-]{27}|(user|crew|source|token):.*)$/;

const detailText = (detail) =>
  Object.entries(detail ?? {})
    .filter(([, value]) => ["string", "number", "boolean"].includes(typeof value) && value !== "" && value !== false && !MACHINE_WORD.test(value))
    .slice(0, 5)
    .map(([name, value]) => `${words(name).toLowerCase()} ${shown(value)}`)
    .join(", ");

function timeline(order) {
  const lines = [...(order.timeline ?? [])].reverse();
  return html`<section class="block" aria-label="Timeline"><h3>Timeline</h3>
    <ol class="timeline">${lines.map((line) => html`<li>
      <time datetime=${line.at} title=${fullMoment(line.at)}>${moment(line.at)}</time>
      <div><p><strong>${words(line.verb)}</strong></p><p class="muted small">${actorName(line.actor)}${detailText(line.detail) ? ` · ${detailText(line.detail)}` : ""}</p></div></li>`)}</ol>
  </section>`;
}

/** The panel of the opened order; `host.run(verb, order)` does what its buttons say. */
export function orderPanel(host) {
  const order = host.opened;
  const crew = host.crews.find((one) => one.id === order.crew);
  const verbs = host.mayDispatch ? verbsOf(order) : [];
  return html`<article class="order" aria-labelledby="order-title">
    <header class="order-head">
      <div><p class="muted small">${order.number}${order.priority ? html` · priority ${order.priority}` : ""}</p>
        <h2 id="order-title" tabindex="-1">${titleOf(order, host.types)}</h2></div>
      ${statusChip(order.status)}
      <a class="button quiet icon-only" href="/orders/${order.id}/ticket" aria-label="Ticket to print">${icon("print")}</a>
      <button class="button quiet icon-only" aria-label="Close the order" @click=${() => host.close()}>${icon("close")}</button>
    </header>
    <div class="order-body">
      ${takenBack(order, crew)} ${exceptions(order, host)} ${reasons(order)}
      ${host.mayDispatch
        ? html`<div class="verbs">
            ${verbs.map((verb, index) => html`<button class="button ${index === 0 ? "primary" : verb === "cancel" ? "danger" : ""}" data-verb=${verb}
              ?disabled=${host.busy} @click=${() => host.run(verb, order)}>${LABELS[verb]}</button>`)}
            <button class="button" data-verb="note" ?disabled=${host.busy} @click=${() => host.run("note", order)}>Add a note…</button>
          </div>`
        : ""}
      ${facts(order, crew)} ${result(order)} ${charges(order)} ${timeline(order)}
    </div>
  </article>`;
}
