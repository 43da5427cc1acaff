// A form built from a JSON Schema: the answers of a work type. Knows the shapes that work types use, nothing of their meaning.

import { html, nothing } from "/static/vendor/lit/lit.js";
import { words } from "/static/console/js/words.js";

const choicesOf = (spec) => spec.oneOf?.map((one) => [one.const, one.title ?? words(one.const)]) ?? spec.enum?.map((value) => [value, words(value)]);
const isDecimal = (spec) => spec.anyOf?.some((one) => one.type === "number") ?? false;

/** Names that must be answered, given what is answered so far: `required` and the conditions in `allOf`. */
export function requiredOf(schema, values) {
  const names = new Set(schema.required ?? []);
  for (const rule of schema.allOf ?? []) {
    const conditions = Object.entries(rule.if?.properties ?? {});
    const holds = conditions.every(([name, spec]) => values[name] === spec.const || spec.enum?.includes(values[name]));
    if (conditions.length && holds) for (const name of rule.then?.required ?? []) names.add(name);
  }
  return names;
}

/** The values without what was left empty, numbers as the schema wants them. */
export function answersOf(schema, values) {
  const answers = {};
  for (const [name, spec] of Object.entries(schema.properties)) {
    const value = values[name];
    if (value === undefined || value === "" || value === null) continue;
    if (spec.type === "object") {
      const inner = answersOf(spec, value);
      if (Object.keys(inner).length) answers[name] = inner;
    } else if (spec.type === "integer") {
      answers[name] = Number(value);
    } else if (spec.format === "date-time") {
      // typed as the clock on the wall shows it; the hub wants the offset
      answers[name] = new Date(value).toISOString();
    } else {
      answers[name] = typeof value === "string" ? value.trim() : value;
    }
  }
  return answers;
}

function control(id, spec, value, needed, set, wrong) {
  const described = wrong ? `${id}-wrong` : nothing;
  const choices = choicesOf(spec) ?? (spec.type === "boolean" ? [[true, "Yes"], [false, "No"]] : null);
  if (choices)
    return html`<select class="input" id=${id} ?required=${needed} aria-describedby=${described} aria-invalid=${wrong ? "true" : nothing}
      @change=${(event) => set(event.target.selectedIndex ? choices[event.target.selectedIndex - 1][0] : undefined)}>
      <option value="">–</option>
      ${choices.map(([code, label]) => html`<option value=${code} ?selected=${code === value}>${label}</option>`)}
    </select>`;
  if (spec.type === "string" && (spec.maxLength ?? 0) > 1000)
    return html`<textarea class="input" id=${id} maxlength=${spec.maxLength} ?required=${needed} .value=${value ?? ""}
      @input=${(event) => set(event.target.value)}></textarea>`;
  if (spec.format === "date-time")
    return html`<input class="input" id=${id} type="datetime-local" .value=${value ?? ""} ?required=${needed}
      aria-describedby=${described} aria-invalid=${wrong ? "true" : nothing} @input=${(event) => set(event.target.value)}>`;
  const pattern = spec.pattern ?? spec.anyOf?.find((one) => one.pattern)?.pattern;
  return html`<input class="input" id=${id} type="text" autocomplete="off" .value=${value ?? ""} ?required=${needed}
    inputmode=${spec.type === "integer" ? "numeric" : isDecimal(spec) ? "decimal" : nothing}
    pattern=${spec.type === "integer" ? "\\d+" : (pattern?.replace(/^\^|\$$/g, "") ?? nothing)}
    title=${isDecimal(spec) || spec.type === "integer" ? "A number, with a point before decimals" : nothing}
    maxlength=${spec.maxLength ?? nothing} aria-describedby=${described} aria-invalid=${wrong ? "true" : nothing}
    @input=${(event) => set(event.target.value)}>`;
}

/** One group of radio buttons: for the answer that decides all others. */
export function radios(name, spec, value, set) {
  return html`<fieldset class="radios"><legend class="label">${spec.title ?? words(name)}</legend>
    ${choicesOf(spec).map(([code, label]) => html`<label class="radio"><input type="radio" name=${name} value=${code} required
      .checked=${value === code} @change=${() => set(code)}><span>${label}</span></label>`)}
  </fieldset>`;
}

/** All fields of an object schema but those in `skip`. `change(name, value)`; `wrong` is `{field, message}` of the API. */
export function schemaFields(schema, values, change, { prefix = "answer", skip = [], wrong = null } = {}) {
  const required = requiredOf(schema, values);
  return Object.entries(schema.properties)
    .filter(([name]) => !skip.includes(name))
    .map(([name, spec]) => {
      const id = `${prefix}-${name}`;
      if (spec.type === "object") {
        const inner = values[name] ?? {};
        const asked = required.has(name) ? spec : { ...spec, required: Object.keys(answersOf(spec, inner)).length ? spec.required : [] };
        return html`<fieldset class="inner"><legend class="label">${spec.title ?? words(name)}${required.has(name) ? "" : html` <span class="muted">(optional)</span>`}</legend>
          <div class="inner-fields">${schemaFields(asked, inner, (key, value) => change(name, { ...inner, [key]: value }), { prefix: id, wrong })}</div></fieldset>`;
      }
      const needed = required.has(name);
      const mistake = wrong?.field?.endsWith(`.${name}`) ? wrong.message : null;
      return html`<div class="field">
        <label for=${id}>${spec.title ?? words(name)}${spec["x-unit"] ? html` <span class="muted">(${spec["x-unit"]})</span>` : ""}${needed ? "" : html` <span class="muted">(optional)</span>`}</label>
        ${control(id, spec, values[name], needed, (value) => change(name, value), mistake)}
        ${mistake ? html`<p class="wrong" id="${id}-wrong">${mistake}</p>` : ""}
      </div>`;
    });
}
