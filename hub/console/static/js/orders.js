// Work orders as the console handles them: where their fields are, and every verb of the API in one place.

import { get, post, withQuery } from "/static/console/js/api.js";
import { mayDispatch, mayReport } from "/static/console/js/context.js";

const BASE = "/api/v1/work-orders";
export const PAGE = 100;

export const crewName = (order) => order.crew_name ?? null;
export const titleOf = (order, types) => order.title ?? types.get(order.type)?.title ?? order.type;

export const list = (filters, { cursor, limit = PAGE, signal } = {}) => get(withQuery(BASE, { ...filters, cursor, limit }), { signal });
/** Where the points of the map come from; a new number each time, so that nothing stale is shown. */
export const points = (filters) => new URL(withQuery("/console/work.geojson", { ...filters, at: (points.asked = (points.asked ?? 0) + 1) }), location.origin).href;
export const order = (id, options) => get(`${BASE}/${id}`, options);
export const crews = async () => (mayDispatch ? (await get("/api/v1/crews?limit=200")).items.filter((crew) => crew.active) : []);
export const loadOfCrews = async () => (mayDispatch ? get("/console/load") : {});
export const workTypes = async () => (await get("/api/v1/work-types")).items;
export const workType = (type) => get(`/api/v1/work-types/${encodeURIComponent(type)}`);
export const open = (body) => post(BASE, body);

/** One verb of the life cycle, on the revision this page showed. A note needs none. */
export const act = (shown, verb, body = {}) => post(`${BASE}/${shown.id}/${verb}`, body, verb === "note" ? {} : { rev: shown.rev });

/** Give several orders to a crew; each has its own result. */
export const assignAll = (shown, crew) =>
  post(`${BASE}/bulk-assign`, { crew: crew.id, items: shown.map(({ id, rev }) => ({ id, rev })) });

/** What a person may do with an order in this state, in the order the buttons stand. */
export function verbsOf(order) {
  const report = mayReport ? ["complete", "unable"] : [];
  const asked = Boolean(order.cancel_requested);
  return {
    held: ["release", ...(order.withdrawal && !order.withdrawal.confirmed ? ["told"] : []), "cancel"],
    ready: ["assign", "hold", "cancel"],
    assigned: [...report, "unassign", "hold", "cancel"],
    en_route: [...report, ...(asked ? ["told"] : ["hold", "cancel"])],
    on_site: [...report, ...(asked ? ["told"] : ["hold", "cancel"])],
    paused: [...report, ...(asked ? ["told"] : ["hold", "cancel"])],
    completed: ["reopen"],
    unable: ["reopen"],
    cancelled: order.withdrawal && !order.withdrawal.confirmed ? ["told"] : [],
  }[order.status] ?? [];
}
