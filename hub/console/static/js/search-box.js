// The search field in the bar: accounts, addresses, meters and orders, with the keyboard alone if wanted ("/" jumps here).

import { LitElement, html, nothing } from "/static/vendor/lit/lit.js";
import { get } from "/static/console/js/api.js";
import { icon, words } from "/static/console/js/words.js";

const ICONS = { order: "order", account: "user", place: "home", meter: "meter" };
const WAIT_MS = 160;

class SearchBox extends LitElement {
  static properties = { items: { state: true }, active: { state: true }, asked: { state: true }, open: { state: true } };

  constructor() {
    super();
    Object.assign(this, { items: [], active: -1, asked: "", open: false });
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest?.("input, select, textarea, dialog")) return;
      event.preventDefault();
      this.querySelector("input").focus();
    });
    this.addEventListener("focusout", (event) => {
      if (!this.contains(event.relatedTarget)) this.open = false;
    });
  }

  typed(event) {
    const q = event.target.value.trim();
    clearTimeout(this.waiting);
    this.asking?.abort();
    if (q.length < 2) {
      Object.assign(this, { items: [], asked: "", open: false, active: -1 });
      return;
    }
    this.waiting = setTimeout(() => this.look(q), WAIT_MS);
  }

  async look(q) {
    const { signal } = (this.asking = new AbortController());
    try {
      const { items } = await get(`/console/search?q=${encodeURIComponent(q)}`, { signal });
      Object.assign(this, { items, asked: q, open: true, active: items.length ? 0 : -1 });
    } catch (error) {
      if (error.name !== "AbortError") Object.assign(this, { items: [], asked: q, open: true, active: -1 });
    }
  }

  pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.items.length) {
      event.preventDefault();
      this.active = (this.active + step + this.items.length) % this.items.length;
    } else if (event.key === "Enter" && this.open && this.items[this.active]) {
      event.preventDefault();
      location.assign(this.items[this.active].href);
    } else if (event.key === "Escape") {
      this.open = false;
      event.target.blur();
    }
  }

  render() {
    return html`<div class="search-field">${icon("search")}
      <input class="input" type="text" role="combobox" aria-label="Search accounts, addresses, meters, orders" placeholder="Search"
        aria-expanded=${this.open} aria-controls="search-results" aria-autocomplete="list" autocomplete="off" spellcheck="false" maxlength="100"
        aria-activedescendant=${this.open && this.active >= 0 ? `found-${this.active}` : nothing}
        @input=${(event) => this.typed(event)} @keydown=${(event) => this.pressed(event)}><kbd aria-hidden="true">/</kbd></div>
      <div class="search-results" id="search-results" role="listbox" aria-label="Found" ?hidden=${!this.open || !this.items.length}>
        ${this.items.map((item, index) => html`<div role="option" id="found-${index}" aria-selected=${index === this.active}
            @mousedown=${(event) => event.preventDefault()} @click=${() => location.assign(item.href)} @mousemove=${() => (this.active = index)}>
          ${icon(ICONS[item.kind])}<span>${item.label}</span><span class="kind">${words(item.kind)}</span>${item.more ? html`<small>${item.more}</small>` : ""}</div>`)}
      </div>
      ${this.open && !this.items.length ? html`<div class="search-results" role="status"><p class="empty">Nothing found for “${this.asked}”.</p></div>` : ""}`;
  }
}

customElements.define("search-box", SearchBox);
