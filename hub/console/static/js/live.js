// The event stream and how fresh this page is. One stream per page; pages subscribe with `onChange`.
// The hub beats every few seconds: silence of 10 s is shown as age, of 30 s as stale, so an old page never looks current.

import { LitElement, html } from "/static/vendor/lit/lit.js";
import { setClock } from "/static/console/js/context.js";

const LATE_MS = 10_000;
const STALE_MS = 30_000;
const GATHER_MS = 400;

const listeners = new Set();
let heardAt = Date.now();
let connected = false;
let gathered = [];
let gathering = null;
let source = null;
let position = document.body.dataset.position;

function heard() {
  heardAt = Date.now();
  connected = true;
}

function flush() {
  const changes = gathered;
  gathered = [];
  gathering = null;
  for (const listener of listeners) listener({ changes, reset: false });
}

function open() {
  // from where this page was made: nothing that changed since is missed, nothing is asked for twice
  source = new EventSource(`/api/v1/events?after=${position}`);
  source.onopen = heard;
  source.onmessage = (event) => {
    heard();
    position = event.lastEventId;
    gathered.push(JSON.parse(event.data));
    gathering ??= setTimeout(flush, GATHER_MS);
  };
  source.addEventListener("beat", (event) => {
    heard();
    const { now, rate } = JSON.parse(event.data);
    setClock(now, rate);
  });
  source.addEventListener("reset", (event) => {
    heard();
    position = event.lastEventId;
    for (const listener of listeners) listener({ changes: [], reset: true });
  });
  source.onerror = () => {
    connected = false;
    // A refused stream (server restarting behind a proxy, session ended) is not retried by the browser: do it here.
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(open, 3000);
    }
  };
}

/** Call `listener({changes: [{type, id, rev}], reset})` on every batch of changes; `reset` means: look at everything again. */
export function onChange(listener) {
  listeners.add(listener);
  if (!source) open();
  return () => listeners.delete(listener);
}

/** "live", "late" or "stale", and the age of the last word from the hub in seconds. */
export function freshness() {
  const age = Date.now() - heardAt;
  if (age > STALE_MS) return { state: "stale", seconds: Math.round(age / 1000) };
  if (age > LATE_MS || !connected) return { state: "late", seconds: Math.round(age / 1000) };
  return { state: "live", seconds: Math.round(age / 1000) };
}

class LiveState extends LitElement {
  static properties = { fresh: { state: true } };

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.fresh = freshness();
    onChange(() => this.look());
    this.timer = setInterval(() => this.look(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
    super.disconnectedCallback();
  }

  look() {
    const before = this.fresh.state;
    this.fresh = freshness();
    document.documentElement.dataset.fresh = this.fresh.state;
    if (before !== this.fresh.state && this.fresh.state !== "late") {
      this.querySelector("[role=status]").textContent =
        this.fresh.state === "stale" ? "The page is stale: the hub does not answer." : "The page is live again.";
    }
  }

  render() {
    const { state, seconds } = this.fresh;
    const text = state === "live" ? "Live" : state === "late" ? `${seconds} s old` : `Stale, ${seconds} s old`;
    return html`<span class="live is-${state}"><span class="dot"></span><span>${text}</span></span>
      <span class="visually-hidden" role="status"></span>`;
  }
}

customElements.define("live-state", LiveState);
