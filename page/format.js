// Numbers as people read them: units, few digits, and a dash for a missing number.

const NOTHING = "–";
/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 2.3456 @param {number | null | undefined} value */
export const loss = (value) => (isNumber(value) ? (value < 1e4 ? value.toFixed(4) : value.toExponential(3)) : NOTHING);

/** 9.5e-4 @param {number | null | undefined} value */
export const rate = (value) => (isNumber(value) ? (value === 0 ? "0" : value.toExponential(2)) : NOTHING);

/** 12.3 % @param {number | null | undefined} value */
export const share = (value) => (isNumber(value) ? `${(100 * value).toFixed(1)} %` : NOTHING);

/** Three digits: 1,234; 1.30; 0.123 @param {number | null | undefined} value */
export function plain(value) {
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (size >= 1e6 || (size < 1e-3 && size > 0)) return value.toExponential(2);
  return size >= 100 ? whole(value) : value.toPrecision(3);
}

/** For an axis: 5.5, 12, 3e-4 @param {number} value */
export const short = (value) =>
  Math.abs(value) >= 1e5 || (Math.abs(value) < 1e-3 && value !== 0)
    ? value.toExponential()
    : value.toLocaleString("en-US", { maximumFractionDigits: 4 });

/** @param {number | null | undefined} value */
export const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en-US") : NOTHING);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1.50 GiB @param {number | null | undefined} value */
export function bytes(value) {
  if (!isNumber(value)) return NOTHING;
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.abs(value) || 1) / 10)));
  const scaled = value / 1024 ** power;
  const digits = power === 0 || Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${UNITS[power]}`;
}

/** 1 h 04 min @param {number | null | undefined} ms */
export function duration(ms) {
  if (!isNumber(ms)) return NOTHING;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

/** 3 minutes ago @param {number} ms */
export function ago(ms) {
  if (ms < 5000) return "just now";
  const [size, unit] = [
    [86400e3, "day"],
    [3600e3, "hour"],
    [60e3, "minute"],
    [1e3, "second"],
  ].find(([size]) => ms >= /** @type {number} */ (size)) ?? [1e3, "second"];
  const count = Math.floor(ms / /** @type {number} */ (size));
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}
