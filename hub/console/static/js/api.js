// The JSON API as the console speaks it: same-origin cookie, CSRF header on unsafe methods, If-Match for changes.

import { csrfToken } from "/static/console/js/context.js";

/** A refusal of the API; `problem` is its RFC 9457 document. */
export class Refusal extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "The hub refused.");
    this.problem = problem;
    this.status = problem.status;
  }
}

async function send(method, path, { body, rev, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = csrfToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (rev !== undefined) headers["If-Match"] = `"${rev}"`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ status: 0, detail: "The hub cannot be reached. Nothing was changed; try again when the connection is back." });
  }
  if (response.status === 401) {
    const here = encodeURIComponent(location.pathname + location.search);
    location.assign(`/sign-in?next=${here}`);
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    answer = { detail: `The hub answered ${response.status} with something that is not JSON.` };
  }
  if (!response.ok) throw new Refusal({ status: response.status, ...answer });
  return answer;
}

export const get = (path, options) => send("GET", path, options);
export const post = (path, body = {}, options = {}) => send("POST", path, { ...options, body });

/** `path` with the parameters that have a value; arrays are joined with commas. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    const text = Array.isArray(value) ? value.join(",") : value;
    if (text !== undefined && text !== null && text !== "") query.set(name, text);
  }
  const tail = query.toString();
  return tail ? `${path}?${tail}` : path;
}

/** What to tell a person about a refusal: its sentence, and its remedy when it names one. */
export function explain(error) {
  const remedy = error.problem?.remedy;
  if (error.status === 412) return "Somebody changed this order in the meantime. It was loaded again: look, then repeat.";
  return remedy ? `${error.message} ${remedy}` : error.message;
}
