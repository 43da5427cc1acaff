// Files brought in: sends one and shows how far each import is. The hub does the work; leaving the page loses nothing
// once the file has arrived.

import { LitElement, html, render } from "/static/vendor/lit/lit.js";
import { Refusal, explain, get, withQuery } from "/static/console/js/api.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";
import { csrfToken } from "/static/console/js/context.js";
import { say } from "/static/console/js/toast.js";
import { actorName, moment, words } from "/static/console/js/words.js";

const RUNS = "/api/v1/import-runs";
const GOING = new Set(["waiting", "running"]);
const TONES = { done: "good", refused: "danger", failed: "danger", interrupted: "danger", running: "accent", waiting: "" };
// The steps of an import and where each lies on its one bar: checking and writing take longest.
const STEPS = { read: [0, 0.05], checked: [0.05, 0.4], staged: [0.45, 0.15], written: [0.6, 0.4] };
const whole = new Intl.NumberFormat("en");
const plural = (count, what) => `${whole.format(count)} ${what}${count === 1 ? "" : "s"}`;
const size = (bytes) => (bytes < 1e6 ? `${whole.format(Math.ceil(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function share({ phase, done, total }) {
  const [begins, spans] = STEPS[phase] ?? [0, 0];
  return begins + spans * (total ? done / total : 0);
}

const cells = (bad) => html`<tr><th scope="row">${bad.row ?? "file"}</th><td>${bad.column ?? ""}</td><td class="serial">${bad.value ?? ""}</td><td>${bad.problem}. ${bad.remedy}</td></tr>`;

async function showFaults(run) {
  let found;
  try {
    found = await get(`${RUNS}/${run.id}`);
  } catch (error) {
    say(explain(error), { wrong: true });
    return;
  }
  const more = found.faults - found.errors.length;
  const title = `${plural(run.faults, "fault")} in ${run.file}`;
  openDialog(title, (close) => html`<div class="dialog">${dialogHead(title, close)}<div class="dialog-body">
    <p>Correct the named rows and import the whole file again; rows already right do no harm.</p>
    <div class="table-wrap" role="region" aria-label="Bad rows" tabindex="0"><table>
      <thead><tr><th scope="col">Row</th><th scope="col">Column</th><th scope="col">Value</th><th scope="col">Problem</th></tr></thead>
      <tbody>${found.errors.map(cells)}</tbody></table></div>
    <p>${more > 0 ? `${whole.format(more)} more: ` : ""}<a href="${RUNS}/${run.id}/faults?format=csv" download>All of them as CSV</a></p></div></div>`);
}

class ImportList extends LitElement {
  static properties = { items: { state: true }, next: { state: true } };

  constructor() {
    super();
    Object.assign(this, { items: null, next: null, known: 1 });
  }

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.look();
    // others bring files in as well
    setInterval(() => document.hidden || this.look(), 10_000);
  }

  /** Ask anew for what is shown; once a second while something is under way. */
  async look() {
    clearTimeout(this.again);
    try {
      const page = await get(withQuery(RUNS, { limit: Math.min(500, Math.max(50, this.items?.length ?? 0)) }));
      const before = new Map((this.items ?? []).map((run) => [run.id, run.state]));
      this.items = page.items;
      this.next = page.next_cursor;
      for (const run of page.items) if (GOING.has(before.get(run.id)) && !GOING.has(run.state)) say(`${run.file}: ${this.told(run)}`, { wrong: run.state !== "done" });
    } catch (error) {
      if (!this.items) say(explain(error), { wrong: true });
    }
    this.dataset.state = "shown";
    if (this.items?.some((run) => GOING.has(run.state))) this.again = setTimeout(() => this.look(), 1000);
  }

  async more() {
    const page = await get(withQuery(RUNS, { cursor: this.next }));
    this.items = [...this.items, ...page.items];
    this.next = page.next_cursor;
  }

  told(run) {
    if (run.state === "done") return `${plural(run.outcome.rows, "row")}: ${whole.format(run.outcome.inserted)} new, ${whole.format(run.outcome.updated)} changed, ${whole.format(run.outcome.unchanged)} as before.`;
    if (run.state === "refused") return `Nothing was stored: ${plural(run.faults, "fault")}.`;
    if (run.state === "waiting") return "Waits until the imports before it have ended.";
    if (run.state === "running") return run.phase ? `${whole.format(run.done)} of ${whole.format(run.total)} rows ${run.phase}` : "The file is being read.";
    return run.detail ?? "";
  }

  row(run) {
    const going = GOING.has(run.state);
    return html`<tr><th scope="row" class="serial">${run.file}<span class="muted small"> ${size(run.bytes)}</span></th><td>${words(run.kind)}</td>
      <td><span class="chip ${TONES[run.state]}">${words(run.state)}</span></td>
      <td class="how-far">${going ? html`<progress aria-label=${`How far ${run.file} is`} max="1" .value=${share(run)}></progress>` : ""}<p>${this.told(run)}</p>
        ${(run.outcome?.notes ?? []).map((note) => html`<p class="muted small">${note}</p>`)}
        ${run.state === "refused" ? html`<button class="link" @click=${() => showFaults(run)}>Bad rows</button>` : ""}</td>
      <td>${actorName(run.by)}</td><td>${moment(run.started_at)}</td></tr>`;
  }

  render() {
    if (!this.items) return html`<section class="card" aria-label="Imports"><p class="empty">Looking…</p></section>`;
    return html`<section class="card" aria-label="Imports">${this.items.length
      ? html`<div class="table-wrap" role="region" aria-label="Imports so far" tabindex="0"><table>
          <thead><tr><th scope="col">File</th><th scope="col">What</th><th scope="col">State</th><th scope="col">Rows</th><th scope="col">By</th><th scope="col">Begun</th></tr></thead>
          <tbody>${this.items.map((run) => this.row(run))}</tbody></table></div>
          ${this.next ? html`<p class="more"><button class="button" @click=${() => this.more()}>Show more</button></p>` : ""}`
      : html`<p class="empty">No file was brought in yet.</p>`}</section>`;
  }
}

customElements.define("import-list", ImportList);

const form = document.getElementById("bring-in");
const sending = document.getElementById("sending");
const kinds = form.elements.kind;

kinds.addEventListener("change", () => {
  const { required, optional, geometry } = kinds.selectedOptions[0].dataset;
  const shape = geometry ? " and a geometry (CSV: lon and lat, or wkt)" : "";
  if (required !== undefined) document.getElementById("columns").textContent = `Required: ${required}${shape}. Optional: ${optional || "none"}.`;
});

/** Send `file`; resolves to the hub's answer. Fetch does not tell how much has gone out, so it is the older request. */
function send(kind, file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", withQuery(`/api/v1/imports/${encodeURIComponent(kind)}`, { file: file.name.slice(-200) }));
    for (const [name, value] of [["X-CSRF-Token", csrfToken], ["Prefer", "respond-async"], ["Content-Type", "application/octet-stream"]]) request.setRequestHeader(name, value);
    const show = (sent) => render(html`<progress aria-label="Sent" max=${file.size || 1} .value=${sent}></progress><span>${size(sent)} of ${size(file.size)} sent. Stay on this page until it has arrived.</span>`, sending);
    request.upload.addEventListener("progress", (event) => show(event.loaded));
    request.addEventListener("load", () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = { detail: `The hub answered ${request.status}.` };
      }
      if (request.status < 300) resolve(answer);
      else reject(new Refusal({ status: request.status, ...answer }));
    });
    request.addEventListener("error", () => reject(new Refusal({ status: 0, detail: "The hub cannot be reached. Nothing was imported; try again when the connection is back." })));
    sending.hidden = false;
    show(0);
    request.send(file);
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = form.elements.file.files[0];
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await send(kinds.value, file);
    form.elements.file.value = "";
    say(`${file.name} has arrived; its import goes on whether this page is open or not.`);
    await document.querySelector("import-list").look();
  } catch (error) {
    say(explain(error), { wrong: true });
  } finally {
    sending.hidden = true;
    button.disabled = false;
  }
});
