// Volumes as the utility reads them: the hub computes in cubic metres, pages show the unit of the settings.

const M3_PER_UNIT = { m3: 1, gal: 0.003785411784, kgal: 3.785411784, ccf: 2.8316846592, mg: 3785.411784 };
const NAMES = { m3: "m³", gal: "gal", kgal: "kgal", ccf: "CCF", mg: "MG" };
const shown = document.body.dataset.units in M3_PER_UNIT ? document.body.dataset.units : "m3";

export const unit = () => NAMES[shown];

/** A volume in m³ as a number in the shown unit, three significant digits for small ones; "–" when it is not known. */
export function volume(m3) {
  if (m3 === null || m3 === undefined) return "–";
  const value = m3 / M3_PER_UNIT[shown];
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return new Intl.NumberFormat("en-US", { maximumFractionDigits: digits }).format(value);
}

/** A percentage with one decimal, or "–". */
export const percent = (value) => (value === null || value === undefined ? "–" : `${new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value)} %`);
