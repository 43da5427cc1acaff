// What of the metering needs a person: messages put aside, devices nobody registered, readings that rules doubt, numbers
// that never came, gateways that fell silent.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { explain, get, post, withQuery } from "/static/console/js/api.js";
import { ask } from "/static/console/js/ask.js";
import { mayDispatch, person } from "/static/console/js/context.js";
import { showMessage } from "/static/console/js/raw-messages.js";
import { say } from "/static/console/js/toast.js";
import { actorName, distance, icon, moment, words } from "/static/console/js/words.js";

const VIEWS = {
  aside: ["Put aside", "/api/v1/quarantine"],
  dismissed: ["Dismissed", "/api/v1/quarantine?state=dismissed"],
  unclaimed: ["Unknown devices", "/api/v1/devices?unclaimed=true"],
  doubted: ["Doubted readings", "/api/v1/reading-exceptions"],
  gaps: ["Missing numbers", "/api/v1/gaps"],
  gateways: ["Gateways", "/api/v1/gateways"],
};
// messages read again by one call: small enough that the bar moves, large enough that few calls are needed
const AT_ONCE = 200;
const mayLook = person.role !== "billing";
const kinds = new Set(["aside", "dismissed"]);
const counted = (counts) => Object.entries(counts).sort(([, a], [, b]) => b - a);

function table(label, heads, rows, empty) {
  if (!rows.length) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table-wrap" role="region" aria-label=${label} tabindex="0"><table>
    <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead><tbody>${rows}</tbody></table></div>`;
}
const meterLink = (serial) => (serial ? html`<a href="/meters/${encodeURIComponent(serial)}">${serial}</a>` : "–");

class QuarantinePage extends LitElement {
  static properties = { view: { state: true }, reason: { state: true }, device: { state: true }, undo: { state: true }, found: { state: true }, running: { state: true } };

  constructor() {
    super();
    const asked = new URLSearchParams(location.search);
    this.view = asked.get("view") in VIEWS ? asked.get("view") : "aside";
    this.reason = asked.get("reason") ?? "";
    this.device = asked.get("device") ?? "";
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
  }

  path(cursor) {
    const { view, reason, device } = this;
    const [path, asked = ""] = VIEWS[view][1].split("?");
    const more = kinds.has(view) ? { reason, device } : view === "doubted" ? { rule: reason } : {};
    return withQuery(path, { ...Object.fromEntries(new URLSearchParams(asked)), ...more, cursor });
  }

  async look(cursor = null) {
    const asked = `${this.view} ${this.reason} ${this.device}`;
    this.asked = asked;
    try {
      const page = await get(this.path(cursor));
      if (this.asked !== asked) return;
      this.found = cursor ? { ...page, items: [...this.found.items, ...page.items] } : page;
    } catch (error) {
      say(explain(error), { wrong: true });
    }
    this.dataset.state = "shown";
  }

  choose(view, reason = "", device = "") {
    Object.assign(this, { view, reason, device, found: null, running: null, undo: null });
    this.dataset.state = "asking";
    history.replaceState(null, "", withQuery("/quarantine", { view: view === "aside" ? "" : view, reason, device }));
    this.look();
  }

  /** The entries that the filters leave, as the API names them, and how many of them are in this view. */
  chosen() {
    const { reason, device } = this;
    return { ...(reason ? { reason } : {}), ...(device ? { device } : {}) };
  }

  shownCount() {
    const counts = this.found[this.view === "dismissed" ? "dismissed" : "counts"];
    return this.reason ? (counts[this.reason] ?? 0) : Object.values(counts).reduce((a, b) => a + b, 0);
  }

  /** Do one thing, say what came of it, and look again. */
  async act(path, body, told) {
    try {
      const answer = await post(`/api/v1/quarantine/${path}`, body);
      say(told(answer));
      await this.look();
      await this.updateComplete;
      // the button that was pressed is gone: go on from the list
      if (document.activeElement === document.body) this.querySelector("section.card").focus();
      return answer;
    } catch (error) {
      say(explain(error), { wrong: true });
      return null;
    }
  }

  again(entry) {
    return this.act(`${entry.id}/replay`, {}, (answer) => answer.resolution === "replayed" ? `Settled: ${answer.stored} booked.` : "Read again; it is put aside for the same reason.");
  }

  askWhy(title, text) {
    return ask({ title, text, fields: [{ name: "why", label: "Why is nothing to be done?", kind: "long", required: true }], button: "Dismiss" });
  }

  async dismiss(entry) {
    const said = await this.askWhy(`Dismiss: ${words(entry.reason)}`, "The entry is kept with your name and reason, and can be opened again. What arrives later is put aside anew.");
    if (said) await this.act(`${entry.id}/dismiss`, said, () => "Dismissed. It stands under Dismissed.");
  }

  async dismissAll() {
    const count = this.shownCount();
    // what came after the newest entry on this page was seen by nobody
    const upTo = this.found.items[0].id;
    const said = await this.askWhy(`Dismiss ${count === 1 ? "one entry" : `all ${count} entries`}`, "They are kept with your name and reason, and can be opened again. What has arrived since you looked, and what arrives later, stays.");
    if (!said) return;
    const chosen = this.chosen();
    const answer = await this.act("dismiss", { ...chosen, ...said, up_to: upTo }, (done) => `${done.dismissed} dismissed.`);
    if (answer?.dismissed) this.undo = { ...chosen, dismissed_at: answer.dismissed_at, count: answer.dismissed };
  }

  async takeBack() {
    const { count, ...what } = this.undo;
    this.undo = null;
    await this.act("reopen", what, (done) => `${done.reopened} of ${count} are open again.`);
  }

  reopen(entry) {
    return this.act(`${entry.id}/reopen`, {}, () => "Open again.");
  }

  reopenAll() {
    return this.act("reopen", this.chosen(), (done) => `${done.reopened} are open again.`);
  }

  async againAll() {
    const chosen = this.chosen();
    const run = { tried: 0, settled: 0, of: this.shownCount(), over: false };
    this.running = run;
    this.stopped = false;
    try {
      let cursor;
      do {
        const part = await post("/api/v1/quarantine/replay", { ...chosen, limit: AT_ONCE, ...(cursor ? { cursor } : {}) });
        run.tried += part.tried;
        run.settled += part.settled;
        cursor = part.next_cursor;
        this.running = { ...run };
      } while (cursor && !this.stopped);
    } catch (error) {
      say(explain(error), { wrong: true });
    }
    this.running = { ...run, over: true };
    say(`${run.tried} read again, ${run.settled} settled, ${run.tried - run.settled} stay.`);
    await this.look();
  }

  async claim(one) {
    const said = await ask({
      title: `Register ${one.device}`,
      text: `${one.messages === 1 ? "One message is" : `${one.messages} messages are`} kept since ${moment(one.first_at)}; what they hold is booked as soon as the device is known. What is left out is unknown, never assumed.`,
      fields: [
        { name: "meter", label: "Serial of the meter", required: true },
        { name: "register", label: "Register", hint: "Of a compound meter; else volume." },
        { name: "unit", label: "Unit of one count", hint: "m3, l, gal, kgal, cf or ccf; else as the payload or the meter says." },
        { name: "multiplier", label: "Units per count", hint: "10 for ten litres a pulse." },
        { name: "decoder", label: "Decoder", hint: "Where the payload does not say what device it is, e.g. axioma_w1." },
      ],
      button: "Register",
    });
    if (!said) return;
    const given = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== ""));
    try {
      const made = await post("/api/v1/devices", { device: one.device, adapter: one.adapter, ...given });
      say(`Registered: ${made.booked} readings booked from ${made.messages_read_again} messages.`);
      await this.look();
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  async resend(gap) {
    try {
      await post(`/api/v1/gaps/${gap.id}/resend`);
      say("The gateway is asked at the next round, within a minute.");
      await this.look();
    } catch (error) {
      say(explain(error), { wrong: true });
    }
  }

  reasons(all) {
    const counts = this.found[this.view === "dismissed" ? "dismissed" : "counts"];
    const sum = Object.values(counts).reduce((a, b) => a + b, 0);
    return html`<div class="replay tabs" role="group" aria-label=${all}>
      <button class="preset" aria-pressed=${this.reason === ""} @click=${() => this.choose(this.view, "", this.device)}>All <span class="count">${sum}</span></button>
      ${counted(counts).map(([reason, count]) => html`<button class="preset" aria-pressed=${this.reason === reason} @click=${() => this.choose(this.view, reason, this.device)}>${words(reason)} <span class="count">${count}</span></button>`)}
      ${this.device ? html`<button class="preset" aria-pressed="true" @click=${() => this.choose(this.view, this.reason)}>Device ${this.device} ${icon("close")}<span class="visually-hidden">: show all devices</span></button>` : ""}</div>`;
  }

  progress() {
    const run = this.running;
    const open = this.shownCount();
    if (!mayDispatch || (!this.reason && !this.device && !run && !this.undo)) return "";
    const narrowed = this.reason || this.device;
    return html`<div class="replay" role="status">
      ${run ? html`<progress aria-label="Messages read again" max=${Math.max(run.of, run.tried, 1)} .value=${run.over ? Math.max(run.of, run.tried, 1) : run.tried}></progress><span>${run.tried} of ${run.of} read again, ${run.settled} settled</span>` : ""}
      ${run && !run.over
        ? html`<button class="button" @click=${() => (this.stopped = true)}>Stop</button>`
        : narrowed && open ? html`<button class="button primary" @click=${() => this.againAll()}>${icon("retry")}Read all ${open} again</button>
          <button class="button" @click=${() => this.dismissAll()}>Dismiss all ${open}…</button>` : ""}
      ${this.undo ? html`<span>${this.undo.count} dismissed.</span><button class="button" @click=${() => this.takeBack()}>Undo</button>` : ""}</div>`;
  }

  /** The cells of an entry that both lists have. */
  entryCells(one) {
    return html`<th scope="row">${words(one.reason)}<span class="why-parked">${one.detail ?? ""}</span></th>
      <td class="serial">${one.device ? html`<button class="link" title="Only this device" @click=${() => this.choose(this.view, this.reason, one.device)}>${one.device}</button>` : "–"}</td>
      <td class="serial">${meterLink(one.meter)}</td>
      <td>${one.value ?? "–"}${one.measured_at ? html` <span class="muted small">${moment(one.measured_at)}</span>` : ""}</td>
      <td>${moment(one.received_at)}</td>
      <td>${one.preview ? html`<span class="preview">${one.preview}</span>` : ""}
        ${mayLook && one.raw_message !== null ? html`<button class="link" @click=${() => showMessage(one.raw_message)}>Message ${one.raw_message}</button>` : ""}</td>`;
  }

  readAgain(one) {
    return one.raw_message === null ? "" : html`<button class="button" @click=${() => this.again(one)}>${icon("retry")}Read again</button>`;
  }

  aside() {
    const rows = this.found.items.map((one) => html`<tr>${this.entryCells(one)}
      <td>${mayDispatch ? html`<div class="acts">${this.readAgain(one)}<button class="button" @click=${() => this.dismiss(one)}>Dismiss…</button></div>` : ""}</td></tr>`);
    return html`${this.reasons("Reason")}${this.progress()}
      ${table("Put aside", ["Reason", "Device", "Meter", "Value", "Arrived", "Message", "Action"], rows, "Nothing is put aside.")}`;
  }

  dismissed() {
    const count = this.shownCount();
    const rows = this.found.items.map((one) => html`<tr>${this.entryCells(one)}
      <td><span class="note">${one.note}</span><span class="muted small">${actorName(one.resolved_by)}, ${moment(one.resolved_at)}</span></td>
      <td>${mayDispatch ? html`<div class="acts"><button class="button" @click=${() => this.reopen(one)}>Open again</button>${this.readAgain(one)}</div>` : ""}</td></tr>`);
    return html`${this.reasons("Reason")}
      ${mayDispatch && (this.reason || this.device) && count ? html`<div class="replay"><button class="button" @click=${() => this.reopenAll()}>Open all ${count} again</button></div>` : ""}
      ${table("Dismissed", ["Reason", "Device", "Meter", "Value", "Arrived", "Message", "Why dismissed", "Action"], rows, "Nobody has dismissed anything.")}`;
  }

  unclaimed() {
    const rows = this.found.items.map((one) => html`<tr><th scope="row" class="serial">${one.device}</th><td>${one.adapter ?? "–"}</td><td>${one.messages}</td>
      <td>${moment(one.first_at)}</td><td>${moment(one.last_at)}</td>
      <td>${mayDispatch ? html`<button class="button" @click=${() => this.claim(one)}>Register…</button>` : ""}</td></tr>`);
    return table("Unknown devices", ["Device", "Adapter", "Messages kept", "First", "Newest", "Action"], rows, "Every device that reports is registered.");
  }

  doubted() {
    const rows = this.found.items.map((one) => html`<tr><th scope="row">${meterLink(one.meter)}</th><td>${words(one.rule)}${one.kind && one.kind !== one.rule ? html` <span class="muted small">${words(one.kind)}</span>` : ""}</td>
      <td>${words(one.register)}</td><td>${moment(one.measured_at)}</td><td>${moment(one.found_at)}</td></tr>`);
    return html`${this.reasons("Rule")}${table("Doubted readings", ["Meter", "Rule", "Register", "Reading of", "Found"], rows, "No rule doubts a reading.")}`;
  }

  gaps() {
    const rows = this.found.items.map((one) => html`<tr><th scope="row" class="serial">${one.device ?? one.gateway}</th><td>${words(one.kind)}</td><td>${one.missing}</td>
      <td>${one.after} to ${one.before}</td><td>${moment(one.found_at)}</td><td>${one.asks ? `${one.asks} times, last ${moment(one.asked_at)}` : "not yet"}</td>
      <td>${mayDispatch ? html`<button class="button" @click=${() => this.resend(one)}>Ask again</button>` : ""}</td></tr>`);
    return table("Missing numbers", ["Who counts", "Kind", "Missing", "Between", "Noticed", "Asked", "Action"], rows, "No number is missing.");
  }

  gateways() {
    const silent = (one) => one.devices > 0 && one.silent === one.devices;
    const rows = [...this.found.items].sort((a, b) => b.silent - a.silent).map((one) => html`<tr><th scope="row" class="serial">${one.gateway}</th>
      <td><span class="chip ${silent(one) ? "danger" : one.silent ? "warn" : "good"}">${silent(one) ? "Silent" : one.silent ? "Partly silent" : "Speaking"}</span></td>
      <td>${moment(one.heard_at)} <span class="muted small">${one.heard_at ? distance(one.heard_at) : ""}</span></td><td>${one.devices}</td><td>${one.silent}</td></tr>`);
    return table("Gateways", ["Gateway", "State", "Heard last", "Devices", "Silent for a day"], rows, "No gateway has spoken yet.");
  }

  render() {
    return html`<div class="page-head"><div><h1>Metering</h1><p class="lead">What was read and not believed, and who has not been heard. Nothing is lost: every message is kept as it came.</p></div></div>
      <div class="tabs" role="group" aria-label="View">${Object.entries(VIEWS).map(([name, [label]]) => html`<button class="preset" aria-pressed=${this.view === name} @click=${() => this.choose(name)}>${label}</button>`)}</div>
      <section class="card" tabindex="-1" aria-label=${`Shown: ${VIEWS[this.view][0]}`}>${this.found ? this[this.view]() : html`<p class="empty">Looking…</p>`}
        ${this.found?.next_cursor ? html`<p class="more"><button class="button" @click=${() => this.look(this.found.next_cursor)}>Show more</button></p>` : ""}</section>`;
  }
}

customElements.define("quarantine-page", QuarantinePage);
