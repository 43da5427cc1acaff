// Completing an order on a crew's behalf, from its paper ticket or over the radio: the form of the work type.

import { html } from "/static/vendor/lit/lit.js";
import { explain } from "/static/console/js/api.js";
import { dialogHead, openDialog } from "/static/console/js/ask.js";
import { now, timeZone } from "/static/console/js/context.js";
import { act, workType } from "/static/console/js/orders.js";
import { answersOf, radios, schemaFields } from "/static/console/js/schema-form.js";
import { dayKey, timeOf } from "/static/console/js/words.js";

/** Milliseconds that local time is ahead of UTC at an instant, in the utility's zone. */
function offsetAt(instant) {
  const parts = new Intl.DateTimeFormat("en-US", {
    timeZone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
  }).formatToParts(new Date(instant));
  const part = (name) => Number(parts.find((one) => one.type === name).value);
  return Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second")) - Math.floor(instant / 1000) * 1000;
}

/** The value of a `datetime-local` field, which means the utility's time zone, as an instant. */
export function instantOf(local) {
  const asUtc = Date.parse(`${local}Z`);
  const guess = asUtc - offsetAt(asUtc);
  return new Date(asUtc - offsetAt(guess)).toISOString();
}

/** Business time now as a `datetime-local` value. */
export const localNow = () => `${dayKey(now())}T${timeOf(now())}`;

/** Open the form; `verb` is "complete" or "unable". Resolves to the changed order, or null. */
export async function completeFor(order, verb) {
  const type = await workType(order.type);
  const form = type.form;
  const codes = { title: "Why it could not be done", oneOf: type.unable_codes.map(({ code, title }) => ({ const: code, title })) };
  const state = { values: {}, via: "paper", at: localNow(), wrong: null, busy: false, remark: "" };
  const title = verb === "complete" ? `Complete ${order.number}` : `${order.number} could not be done`;
  return new Promise((resolve) => {
    const submit = async (event, close, draw) => {
      event.preventDefault();
      if (state.busy) return;
      Object.assign(state, { busy: true, wrong: null });
      draw();
      const told = { at: instantOf(state.at), via: state.via };
      const body =
        verb === "complete"
          ? { ...told, answers: answersOf(form, state.values) }
          : { ...told, code: state.values.code, remark: state.remark || undefined };
      try {
        close(await act(order, verb, body));
      } catch (error) {
        Object.assign(state, { busy: false, wrong: { field: error.problem?.field, message: explain(error) } });
        draw();
        document.querySelector("dialog .dialog-wrong")?.scrollIntoView({ block: "nearest" });
      }
    };
    openDialog(
      title,
      (close, draw) => {
        const change = (name, value) => {
          state.values = { ...state.values, [name]: value };
          draw();
        };
        return html`<form class="completion" @submit=${(event) => submit(event, close, draw)}>
          ${dialogHead(title, close)}
          <div class="dialog-body">
            <p class="muted">${type.title}, ${order.address || order.service_point || "on the map"}. What you write down here is kept as told by the crew, with your name.</p>
            <div class="two">
              <div class="field"><label for="told-via">How the crew told it</label>
                <select class="input" id="told-via" @change=${(event) => (state.via = event.target.value)}>
                  <option value="paper">On paper</option><option value="radio">By radio or phone</option></select></div>
              <div class="field"><label for="told-at">When it was done</label>
                <input class="input" id="told-at" type="datetime-local" required .value=${state.at} @change=${(event) => (state.at = event.target.value)}></div>
            </div>
            ${radios("code", verb === "complete" ? form.properties.code : codes, state.values.code, (code) => change("code", code))}
            ${verb === "complete"
              ? schemaFields(form, state.values, change, { skip: ["code"], wrong: state.wrong })
              : html`<div class="field"><label for="unable-remark">Remark <span class="muted">(optional)</span></label>
                  <textarea class="input" id="unable-remark" maxlength="4000" @input=${(event) => (state.remark = event.target.value)}></textarea></div>`}
            ${state.wrong ? html`<p class="notice danger dialog-wrong" role="alert">${state.wrong.message}</p>` : ""}
          </div>
          <div class="dialog-foot">
            <button class="button quiet" type="button" @click=${() => close(null)}>Back</button>
            <button class="button primary" type="submit" ?disabled=${state.busy}>${verb === "complete" ? "Complete" : "Record"}</button>
          </div>
        </form>`;
      },
      { onClose: (value) => resolve(value ?? null) },
    );
  });
}
