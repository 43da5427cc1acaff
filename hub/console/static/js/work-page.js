// The work page: one selection shared by list, map, crews and panel; every action by mouse and by keyboard.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, post } from "/static/console/js/api.js";
import { ask, askCrew } from "/static/console/js/ask.js";
import { completeFor, instantOf } from "/static/console/js/completion.js";
import { mayDispatch, mayOpen } from "/static/console/js/context.js";
import { crewBar } from "/static/console/js/crew-bar.js";
import { filterBar, forApi, fromAddress, toAddress } from "/static/console/js/filters.js";
import { showKeys } from "/static/console/js/keys.js";
import { onChange } from "/static/console/js/live.js";
import { newOrder } from "/static/console/js/new-order.js";
import { orderPanel } from "/static/console/js/order-panel.js";
import * as work from "/static/console/js/orders.js";
import { say } from "/static/console/js/toast.js";
import { workList } from "/static/console/js/work-list.js";
import "/static/console/js/work-map.js";

const MOST_ROWS = 500;
const REFRESH_MS = 1000;

class WorkPage extends LitElement {
  static properties = {
    orders: { state: true }, opened: { state: true }, active: { state: true }, marked: { state: true }, filters: { state: true },
    crews: { state: true }, types: { state: true }, zones: { state: true }, loading: { state: true }, busy: { state: true },
    load: { state: true }, click: { state: true },
  };

  constructor() {
    super();
    const address = fromAddress();
    Object.assign(this, {
      orders: [], opened: null, active: null, marked: new Set(), filters: address.filters, crews: [], types: new Map(), zones: [],
      loading: true, busy: false, load: new Map(), more: null, click: null, mayDispatch, undo: null,
    });
    this.wanted = address.order;
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    document.addEventListener("keydown", this.pressed);
    this.addEventListener("order-chosen", (event) => this.open(event.detail));
    this.addEventListener("place-clicked", (event) => this.placeClicked(event.detail));
    onChange((batch) => this.changed(batch));
    this.start();
  }

  get map() {
    return this.querySelector("work-map");
  }

  async start() {
    const [types, zones] = await Promise.all([work.workTypes().catch(() => []), get("/api/v1/zones").catch(() => ({ items: [] }))]);
    this.types = new Map(types.map((type) => [type.type, type]));
    this.zones = zones.items;
    await this.refresh();
    if (this.wanted) await this.open(this.wanted);
  }

  /** Load list, map and crews again under the present filters; a newer call overtakes an older one. */
  async refresh() {
    this.asking?.abort();
    const { signal } = (this.asking = new AbortController());
    const rows = Math.min(MOST_ROWS, Math.max(work.PAGE, this.orders.length));
    try {
      this.map?.show(work.points(this.filters));
      const [page, crews, load] = await Promise.all([
        work.list(forApi(this.filters), { limit: rows, signal }),
        work.crews(),
        work.loadOfCrews(),
      ]);
      this.orders = page.items;
      this.more = page.next_cursor;
      this.crews = crews;
      this.load = new Map(Object.entries(load));
      this.marked = new Set([...this.marked].filter((id) => page.items.some((order) => order.id === id)));
    } catch (error) {
      if (error.name !== "AbortError") say(explain(error), { wrong: true });
    } finally {
      this.loading = false;
    }
  }

  async loadMore() {
    if (!this.more || this.loadingMore) return;
    this.loadingMore = true;
    try {
      const page = await work.list(forApi(this.filters), { cursor: this.more });
      const known = new Set(this.orders.map((order) => order.id));
      this.orders = [...this.orders, ...page.items.filter((order) => !known.has(order.id))];
      this.more = page.next_cursor;
    } catch (error) {
      say(explain(error), { wrong: true });
    } finally {
      this.loadingMore = false;
    }
  }

  /** The event stream told of changes: look again, at most once a second, and at the opened order when it is among them. */
  changed({ changes, reset }) {
    const mine = changes.some((change) => ["work_order", "crew", "order_exception"].includes(change.type));
    if (!reset && !mine) return;
    this.again ??= setTimeout(() => {
      this.again = null;
      this.refresh();
    }, reset ? 0 : REFRESH_MS);
    const shown = this.opened && changes.find((change) => change.id === this.opened.id && change.rev !== this.opened.rev);
    if (this.opened && (reset || shown)) this.reload();
  }

  async reload() {
    try {
      const fresh = await work.order(this.opened.id);
      if (this.opened?.id === fresh.id) this.opened = fresh;
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  change(filters) {
    this.filters = Object.fromEntries(Object.entries(filters).filter(([, value]) => value));
    toAddress(this.filters, this.opened?.id);
    this.loading = true;
    this.orders = [];
    this.refresh();
  }

  async open(id) {
    try {
      this.opened = await work.order(id);
      this.active = id;
      this.click = null;
      toAddress(this.filters, id);
      await this.map?.choose(this.opened);
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  close() {
    this.opened = null;
    toAddress(this.filters, null);
    this.map?.choose(null);
    this.querySelector(".list")?.focus();
  }

  // ---- marking, dragging -------------------------------------------------------------------------------------------

  rowClicked(event, order) {
    this.active = order.id;
    if (event.target.closest("[data-mark]") || event.ctrlKey || event.metaKey) this.toggle(order.id);
    else this.open(order.id);
  }

  toggle(id) {
    const marked = new Set(this.marked);
    if (!marked.delete(id)) marked.add(id);
    this.marked = marked;
  }

  unmarkAll() {
    this.marked = new Set();
  }

  dragStarted(event, order) {
    this.dragged = this.marked.has(order.id) ? [...this.marked] : [order.id];
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", order.number);
    this.classList.add("dragging");
  }

  dragEnded() {
    this.classList.remove("dragging");
  }

  dropOn(crew) {
    const ids = this.dragged ?? [];
    this.dragged = null;
    this.dragEnded();
    if (ids.length) this.give(ids, crew);
  }

  listScrolled({ target }) {
    if (target.scrollTop + target.clientHeight > target.scrollHeight - 600) this.loadMore();
  }

  filterCrew(crew) {
    this.change({ ...this.filters, crew: this.filters.crew === crew.name ? "" : crew.name });
  }

  // ---- verbs -------------------------------------------------------------------------------------------------------

  async chooseCrew(ids) {
    const crew = await askCrew(ids.length === 1 ? "Assign to a crew" : `Assign ${ids.length} orders to a crew`, this.crews, this.load);
    if (crew) await this.give(ids, crew);
  }

  /** Assign orders to a crew. Nothing is shown as done before the hub has said so, order by order. */
  async give(ids, crew) {
    const known = new Map([...this.orders, ...(this.opened ? [this.opened] : [])].map((order) => [order.id, order]));
    const shown = ids.map((id) => known.get(id)).filter(Boolean);
    this.busy = true;
    try {
      if (shown.length === 1) {
        const changed = await work.act(shown[0], "assign", { crew: crew.id });
        this.took(changed, `${changed.number} is assigned to ${crew.name}.`, { verb: "unassign", orders: [changed] });
      } else {
        const { items } = await work.assignAll(shown, crew);
        this.bulkDone(items, shown, crew);
      }
    } catch (error) {
      await this.refused(error, shown[0]);
    } finally {
      this.busy = false;
    }
  }

  bulkDone(items, shown, crew) {
    const numbers = new Map(shown.map((order) => [order.id, order.number]));
    const refused = items.filter((item) => item.problem || item.result === "refused");
    const done = items.filter((item) => !refused.includes(item));
    this.marked = new Set(refused.map((item) => item.id));
    const why = refused.slice(0, 3).map((item) => `${numbers.get(item.id)}: ${item.problem?.detail ?? "refused"}`).join(" ");
    this.undo = done.length ? { verb: "unassign", orders: done.map(({ id, rev }) => ({ id, rev })) } : null;
    say(`${done.length} assigned to ${crew.name}${refused.length ? `, ${refused.length} refused. ${why}` : "."}`, {
      wrong: refused.length > 0,
      action: this.undo ? { label: "Undo", run: () => this.undoLast() } : null,
    });
    this.refresh();
  }

  took(changed, text, undo = null) {
    if (this.opened?.id === changed.id) this.opened = { ...this.opened, ...changed };
    this.orders = this.orders.map((order) => (order.id === changed.id ? { ...order, ...changed } : order));
    this.undo = undo;
    say(text, { action: undo ? { label: "Undo", run: () => this.undoLast() } : null });
    if (this.opened?.id === changed.id) this.reload();
    this.refresh();
  }

  /** Undo is a compensating verb, recorded like any other: nothing is rewound. */
  async undoLast() {
    const last = this.undo;
    this.undo = null;
    if (!last) return;
    try {
      for (const shown of last.orders) await work.act(shown, last.verb);
      say(last.orders.length === 1 ? "Taken back." : `${last.orders.length} orders taken back.`);
    } catch (error) {
      say(explain(error), { wrong: true });
    }
    if (this.opened) this.reload();
    this.refresh();
  }

  async refused(error, shown) {
    if (error.name === "AbortError") return;
    say(explain(error), { wrong: true });
    if (error.status === 412 && shown) {
      if (this.opened?.id === shown.id) await this.reload();
      await this.refresh();
    }
  }

  async run(verb, order) {
    if (verb === "assign") return this.chooseCrew([order.id]);
    if (verb === "complete" || verb === "unable") {
      const changed = await completeFor(order, verb);
      if (changed) this.took(changed, `${changed.number} is ${changed.status.replace("_", " ")}.`);
      return;
    }
    const body = await QUESTIONS[verb]?.(order);
    if (body === null) return;
    this.busy = true;
    try {
      const changed = await work.act(order, verb, body ?? {});
      if (changed?.id) this.took(changed, SAID[verb]?.(changed) ?? "Done.", verb === "unassign" ? null : undefined);
      else await this.reload();
    } catch (error) {
      await this.refused(error, order);
    } finally {
      this.busy = false;
    }
  }

  /** Say how a matter that waited for a person was settled. */
  async settle(matter) {
    const told = await ask({ title: "How was it settled?", text: matter.text, button: "Settled", fields: [{ name: "text", label: "What was done", kind: "long", required: true }] });
    if (!told) return;
    try {
      await post(`/api/v1/exceptions/${matter.id}/resolve`, told);
      await this.reload();
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  async placeClicked({ lng, lat }) {
    const { place } = await get(`/console/near?lon=${lng}&lat=${lat}`).catch(() => ({ place: null }));
    this.click = { lng, lat, place };
  }

  async newOrderHere() {
    const { lng, lat, place } = this.click;
    const made = await newOrder(place ? { service_point: place.id, account: place.account, address: place.address } : { position: { lon: lng, lat } });
    this.click = null;
    if (made) {
      await this.refresh();
      await this.open(made.id);
    }
  }

  // ---- keyboard ----------------------------------------------------------------------------------------------------

  pressed = (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog, [role=combobox], .maplibregl-canvas-container");
    if (typing || event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && this.undo) {
      event.preventDefault();
      this.undoLast();
    }
    if (event.ctrlKey || event.metaKey) return;
    const digit = Number(event.key);
    const inButton = event.target.closest?.("button, a, summary");
    if (digit >= 1 && digit <= Math.min(9, this.crews.length) && this.mayDispatch) {
      const ids = this.marked.size ? [...this.marked] : this.active ? [this.active] : [];
      if (ids.length) this.give(ids, this.crews[digit - 1]);
      return;
    }
    const keys = {
      j: () => this.step(1), k: () => this.step(-1), ArrowDown: () => !inButton && this.step(1), ArrowUp: () => !inButton && this.step(-1),
      " ": () => !inButton && this.active && this.toggle(this.active), Enter: () => !inButton && this.active && this.open(this.active),
      x: () => this.unmarkAll(), a: () => this.mayDispatch && this.active && this.chooseCrew(this.marked.size ? [...this.marked] : [this.active]),
      c: () => this.opened && this.mayDispatch && work.verbsOf(this.opened).includes("complete") && this.run("complete", this.opened),
      n: () => this.opened && this.mayDispatch && this.run("note", this.opened), m: () => this.map?.focusMap(),
      "?": () => this.showKeys(), Escape: () => (this.click ? (this.click = null) : this.opened && this.close()),
    };
    const run = keys[event.key];
    if (!run || ([" ", "Enter"].includes(event.key) && inButton)) return;
    event.preventDefault();
    run();
  };

  step(by) {
    if (!this.orders.length) return;
    const at = this.orders.findIndex((order) => order.id === this.active);
    const next = this.orders[Math.min(this.orders.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    this.active = next.id;
    this.querySelector(".list")?.focus({ preventScroll: true });
    this.updateComplete.then(() => this.querySelector(`#row-${next.id}`)?.scrollIntoView({ block: "nearest" }));
    if (this.opened && this.opened.id !== next.id) this.open(next.id);
  }

  showKeys() {
    showKeys();
  }

  render() {
    return html`<div class="panes ${this.opened ? "with-order" : ""}">
      <section class="left" aria-label="Work list">
        ${filterBar({ filters: this.filters, types: this.types, zones: this.zones, crews: this.crews, change: (filters) => this.change(filters) })}
        ${workList(this)}
      </section>
      <div class="middle">
        <work-map></work-map>
        ${this.click
          ? html`<div class="place-card card" role="dialog" aria-label="Place on the map">
              <p><strong>${this.click.place?.address ?? "No service point here"}</strong></p>
              ${this.click.place ? html`<p class="muted small"><a href="/places/${encodeURIComponent(this.click.place.id)}">${this.click.place.id}</a>
                ${this.click.place.account ? html` · <a href="/accounts/${encodeURIComponent(this.click.place.account)}">account ${this.click.place.account}</a>` : ""}</p>` : ""}
              <div class="verbs">${mayOpen ? html`<button class="button primary" @click=${() => this.newOrderHere()}>New order here</button>` : ""}
                <button class="button quiet" @click=${() => (this.click = null)}>Close</button></div>
            </div>`
          : ""}
        ${this.mayDispatch ? html`<section class="bottom" aria-label="Crews">${crewBar(this)}</section>` : ""}
      </div>
      ${this.opened ? html`<aside class="right" aria-label="Order ${this.opened.number}">${orderPanel(this)}</aside>` : ""}
    </div>`;
  }
}

const reason = (title, text, button, danger) => async () =>
  ask({ title, text, button, danger, fields: [{ name: "reason", label: "Reason", kind: "text", required: true }] });

const QUESTIONS = {
  cancel: reason("Cancel the order", "A crew that is already out must confirm before the order ends.", "Cancel the order", true),
  reopen: reason("Reopen the order", "When billing has been told of its end, a linked follow-up order opens instead.", "Reopen"),
  note: async () => ask({ title: "Add a note", button: "Add", fields: [{ name: "text", label: "Note", kind: "long", required: true }] }),
  hold: async () => {
    const told = await ask({
      title: "Hold the order",
      button: "Hold",
      fields: [
        { name: "reason", label: "Reason", kind: "text", required: true },
        { name: "until", label: "Not before", kind: "time", hint: "In the utility's time zone. Without it the order waits until it is released." },
      ],
    });
    if (!told) return null;
    return { reasons: [{ code: "by_hand", text: told.reason }], ...(told.until ? { earliest_at: instantOf(told.until) } : {}) };
  },
};

const SAID = {
  unassign: (order) => `${order.number} is ready again.`,
  release: (order) => `${order.number} is ${order.status}.`,
  hold: (order) => (order.cancel_requested ? `${order.number} is asked back from the crew.` : `${order.number} is held.`),
  cancel: (order) => (order.cancel_requested ? `${order.number} is asked back from the crew.` : `${order.number} is cancelled.`),
  reopen: (order) => `${order.number} is ${order.status}.`,
  note: () => "The note is on the timeline.",
  told: (order) => `${order.number} is ${order.status}.`,
};

customElements.define("work-page", WorkPage);
