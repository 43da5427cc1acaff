// The list of orders: one listbox that the keyboard walks (j, k, arrows), marks (space) and opens (enter).

import { classMap, html, nothing, repeat } from "/static/vendor/lit/lit.js";
import { now } from "/static/console/js/context.js";
import { crewName, titleOf } from "/static/console/js/orders.js";
import { distance, icon, moment, statusChip, words } from "/static/console/js/words.js";

/** When the order matters: the earliest lawful time of a held one, its appointment, or the time it is due. */
export function whenOf(order) {
  const done = ["completed", "unable", "cancelled", "closed"].includes(order.status);
  if (done) return null;
  if (order.status === "held") return order.earliest_at ? { label: "not before", at: order.earliest_at } : null;
  if (order.appointment?.from) return { label: "appointment", at: order.appointment.from, until: order.appointment.to };
  if (order.not_before && Date.parse(order.not_before) > now()) return { label: "not before", at: order.not_before };
  if (order.due_by) return { label: "due", at: order.due_by, late: Date.parse(order.due_by) < now() };
  return null;
}

function whenText(order) {
  const when = whenOf(order);
  if (!when) return nothing;
  const text = when.label === "due" ? `due ${distance(when.at)}` : `${when.label} ${moment(when.at)}`;
  return html`<time class=${when.late ? "late" : ""} datetime=${when.at}>${when.late ? "overdue, " : ""}${text}</time>`;
}

function row(host, order) {
  const marked = host.marked.has(order.id);
  const reason = order.status === "held" ? order.reasons?.[0] : null;
  return html`<div role="option" id="row-${order.id}" aria-selected=${marked} draggable=${host.mayDispatch ? "true" : "false"}
      class=${classMap({ row: true, active: host.active === order.id, open: host.opened?.id === order.id, urgent: order.priority === 1 })}
      @click=${(event) => host.rowClicked(event, order)} @dragstart=${(event) => host.dragStarted(event, order)} @dragend=${() => host.dragEnded()}>
    <span class="mark" data-mark aria-hidden="true">${marked ? icon("completed") : ""}</span>
    <span class="row-title">${titleOf(order, host.types)}${order.cancel_requested ? html` <span class="chip danger">${icon("alert")}Taken back</span>` : ""}</span>
    <span class="row-status">${statusChip(order.status)}</span>
    <span class="row-place">${order.address || order.service_point || "Position on the map"}</span>
    <span class="row-crew">${crewName(order) ? html`${icon("assigned")}${crewName(order)}` : ""}</span>
    <span class="row-foot muted"><span>${order.number}${order.zone ? html` · ${order.zone}` : ""}</span>${whenText(order)}</span>
    ${reason ? html`<span class="row-reason">${icon("held")}${reason.text || words(reason.code)}</span>` : ""}
  </div>`;
}

/** The list with its count, its marks, and the bar for marked orders. */
export function workList(host) {
  const { orders, marked, more } = host;
  return html`
    <div class="list-head">
      <p role="status"><strong>${orders.length}${more ? "+" : ""}</strong> ${orders.length === 1 ? "order" : "orders"}</p>
      ${marked.size
        ? html`<p class="marked">${marked.size} marked
            ${host.mayDispatch ? html`<button class="button primary" id="bulk-assign" @click=${() => host.chooseCrew([...marked])}>Assign…</button>` : ""}
            <button class="button quiet" @click=${() => host.unmarkAll()}>Clear</button></p>`
        : html`<button class="button quiet small" @click=${() => host.showKeys()}>${icon("keyboard")}Keys <kbd>?</kbd></button>`}
    </div>
    <div class="list" role="listbox" aria-multiselectable="true" aria-label="Work orders" tabindex="0"
      aria-activedescendant=${host.active ? `row-${host.active}` : nothing}
      @scroll=${(event) => host.listScrolled(event)}>
      ${repeat(orders, (order) => order.id, (order) => row(host, order))}
    </div>
    ${orders.length ? "" : html`<div class="empty">${host.loading ? "Loading…" : html`<p><strong>No work matches.</strong></p><p>Change the view or the filters above.</p>`}</div>`}`;
}
