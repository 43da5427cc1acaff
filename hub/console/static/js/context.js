// Who is signed in, in which time zone, and what time the hub's business clock shows.
// The page carries these facts as data attributes of <body>: no inline script, so the content security policy stays strict.

const facts = document.body.dataset;

export const person = { name: facts.person, role: facts.role };
export const csrfToken = facts.csrf ?? "";
export const timeZone = facts.timeZone ?? "UTC";
export const currency = facts.currency ?? "USD";

const clock = { business: Date.parse(facts.now ?? "") || Date.now(), real: Date.now(), rate: Number(facts.rate) || 1 };

/** Business time in milliseconds: the hub's own clock, which a drill may run faster than the wall's. */
export function now() {
  return clock.business + (Date.now() - clock.real) * clock.rate;
}

/** Set the business clock from what the event stream just said. */
export function setClock(business, rate) {
  clock.business = Date.parse(business);
  clock.real = Date.now();
  clock.rate = rate;
}

/** May this person change work, or only look? */
export const mayDispatch = ["admin", "supervisor", "dispatcher"].includes(person.role);
/** May this person open orders by hand? */
export const mayOpen = mayDispatch || person.role === "billing";
/** May this person record field work for a crew? */
export const mayReport = ["supervisor", "dispatcher"].includes(person.role);
