// What billing told us and what we owe billing: plain tables, with the reason of everything that is parked.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, post, withQuery } from "/static/console/js/api.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";
import { person } from "/static/console/js/context.js";
import { onChange } from "/static/console/js/live.js";
import { say } from "/static/console/js/toast.js";
import { icon, words } from "/static/console/js/words.js";

const KINDS = {
  events: {
    path: "/api/v1/billing-events", title: "From billing", lead: "Every message of a billing system, as it arrived, and what became of it.",
    statuses: ["parked", "pending", "applied", "joined", "superseded"], again: "retry", againLabel: "Try again", empty: "No message of this kind.",
    when: "Received", tones: { parked: "danger", pending: "warn", applied: "good" }, changed: "billing_event",
  },
  messages: {
    path: "/api/v1/outbound-messages", title: "To billing", lead: "What the hub owes billing systems, in order for each work order. Nothing is dropped.",
    statuses: ["parked", "pending", "delivered"], again: "replay", againLabel: "Send again", empty: "No message of this kind.",
    when: "Written", tones: { parked: "danger", pending: "warn", delivered: "good" }, changed: "outbound_message",
  },
};
const wallClock = (at) => (at ? new Date(at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "–");

class MessageList extends LitElement {
  static properties = { kind: {}, items: { state: true }, status: { state: true }, next: { state: true }, loading: { state: true } };

  constructor() {
    super();
    Object.assign(this, { items: [], status: new URLSearchParams(location.search).get("status") ?? "", next: null, loading: true });
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
    onChange(({ changes, reset }) => {
      if (reset || changes.some((change) => [this.about.changed, "work_order", "account"].includes(change.type))) this.again ??= setTimeout(() => { this.again = null; this.look(); }, 1500);
    });
  }

  get about() {
    return KINDS[this.kind];
  }

  async look(cursor = null) {
    try {
      const page = await get(withQuery(this.about.path, { status: this.status, cursor }));
      this.items = cursor ? [...this.items, ...page.items] : page.items;
      this.next = page.next_cursor;
    } catch (error) {
      say(explain(error), { wrong: true });
    } finally {
      this.loading = false;
    }
  }

  choose(status) {
    this.status = status;
    this.items = [];
    this.loading = true;
    history.replaceState(null, "", status ? `?status=${status}` : location.pathname);
    this.look();
  }

  async repeat(item) {
    try {
      await post(`${this.about.path}/${item.id}/${this.about.again}`);
      say("It is on its way again.");
      this.look();
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  async show(item) {
    let whole = item;
    if (this.kind === "events") whole = await get(`${this.about.path}/${item.id}`).catch(() => item);
    const body = whole.body ?? whole.data ?? whole;
    openDialog(
      item.type ?? "Message",
      (close) => html`<div class="dialog">${dialogHead(item.type ?? "Message", close)}
        <div class="dialog-body">${whole.reason ? html`<p class="notice danger">${whole.reason}</p>` : ""}
          <pre class="json" tabindex="0">${typeof body === "string" ? body : JSON.stringify(body, null, 2)}</pre></div></div>`,
    );
  }

  row(item) {
    const { about } = this;
    const account = item.account ?? item.data?.account ?? item.body?.data?.account;
    const orderId = item.work_order ?? item.outcome?.orders?.[0]?.id ?? null;
    const mayRepeat = ["admin", "supervisor", "billing"].includes(person.role) && item.status === "parked";
    return html`<tr>
      <th scope="row"><button class="link" @click=${() => this.show(item)}>${item.type ?? "Unreadable"}</button></th>
      <td><span class="chip ${about.tones[item.status] ?? ""}">${words(item.status)}</span>${item.reason ? html`<p class="why-parked">${item.reason}</p>` : ""}</td>
      <td>${account ? html`<a href="/accounts/${encodeURIComponent(account)}">${account}</a>` : "–"}</td>
      <td>${item.source ?? item.destination ?? "–"}</td>
      <td>${orderId ? html`<a href="/?order=${orderId}">Order</a>` : "–"}</td>
      <td>${wallClock(item.received_at ?? item.created_at)}</td>
      <td class="number">${mayRepeat ? html`<button class="button" @click=${() => this.repeat(item)}>${icon("retry")}${about.againLabel}</button>` : ""}</td>
    </tr>`;
  }

  render() {
    const { about } = this;
    return html`<div class="page-head"><div><h1>${about.title}</h1><p class="lead">${about.lead}</p></div></div>
      <div class="tabs" role="group" aria-label="Status">
        ${["", ...about.statuses].map((status) => html`<button class="preset" aria-pressed=${this.status === status} @click=${() => this.choose(status)}>${status ? words(status) : "All"}</button>`)}
      </div>
      <section class="card" aria-label=${about.title}>
        ${this.items.length
          ? html`<div class="table-wrap" role="region" aria-label="Messages" tabindex="0"><table>
              <thead><tr><th scope="col">Message</th><th scope="col">State</th><th scope="col">Account</th><th scope="col">Billing system</th><th scope="col">Work</th><th scope="col">${about.when}</th><th scope="col"><span class="visually-hidden">Action</span></th></tr></thead>
              <tbody>${this.items.map((item) => this.row(item))}</tbody></table></div>
              ${this.next ? html`<p class="more"><button class="button" @click=${() => this.look(this.next)}>Show more</button></p>` : ""}`
          : html`<p class="empty">${this.loading ? "Loading…" : about.empty}</p>`}
      </section>`;
  }
}

customElements.define("message-list", MessageList);
