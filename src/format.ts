// Text for people: bytes, durations, counts, and text from outside. Pure functions, no dependencies; every report uses
// these.

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 -> "1.5 KiB". Binary units, because allocators and cards count in them. */
export function formatBytes(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${bytes < 0 ? "-" : ""}${value.toFixed(digits)} ${BYTE_UNITS[unit]}`;
}

/** A number of bytes with its unit, as `parseBytes` reads it. */
export const BYTES = /^(\d+(?:\.\d+)?) ?(?:([KMGT])(i)?)?B$/i;

/** "8GiB" -> 8 * 2^30, "1.5 GB" -> 1.5e9; undefined for anything else. */
export function parseBytes(text: string): number | undefined {
  const [, digits, prefix, binary] = BYTES.exec(text.trim()) ?? [];
  if (digits === undefined) return undefined;
  const power = " KMGT".indexOf(prefix?.toUpperCase() ?? " ");
  return Math.round(Number(digits) * (binary ? 1024 : 1000) ** power);
}

/** A number of bytes per second, as `parseRate` reads it. */
export const BYTES_A_SECOND = new RegExp(`${BYTES.source.slice(0, -1)}/s$`, "i");

/** "50GB/s" -> 5e10; undefined for anything else. */
export const parseRate = (text: string): number | undefined =>
  BYTES_A_SECOND.test(text.trim()) ? parseBytes(text.trim().slice(0, -"/s".length)) : undefined;

/** 0.00001 -> "1e-5"; small powers of 1/2, which have many digits, as fractions: "-1/256". */
export function formatNumber(value: number): string {
  const parts = 1 / Math.abs(value);
  if (parts >= 16 && parts <= 1024 && Number.isInteger(Math.log2(parts))) return `${value < 0 ? "-" : ""}1/${parts}`;
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}

/** 93_000 -> "1m33s"; below ten seconds with one decimal. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "?";
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, "0")}s`;
  return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}m`;
}

/** 14_316_000_000 -> "14.3 B" (billions), 8_400_000 -> "8.4 M". */
export function formatCount(count: number): string {
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (Math.abs(count) >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return String(count);
}

/** 1, "row" -> "1 row"; 1200 -> "1,200 rows". */
export const formatNumberOf = (count: number, noun: string): string =>
  `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;

/** Left-aligned first column, right-aligned rest; rows may be ragged. For terminals. */
export function formatTable(header: string[], rows: string[][]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const line = (row: string[]): string =>
    widths
      .map((width, column) => (column === 0 ? (row[column] ?? "").padEnd(width) : (row[column] ?? "").padStart(width)))
      .join("  ")
      .trimEnd();
  return [line(header), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}

/**
 * Text from outside, made harmless for a terminal and a log: control characters except newline and tab, and characters
 * that change the direction of writing, are written as escapes. JSON stays JSON with the same meaning.
 */
export function visibleText(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_C}\u2028\u2029]/gu, (character) => {
    if (character === "\n" || character === "\t") return character;
    const code = character.charCodeAt(0).toString(16);
    return character < " " ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`;
  });
}

/** A message of at most about `limit` characters: the middle is cut, because a message ends with what to do. */
export function cutText(text: string, limit = 2000): string {
  if (text.length <= limit) return text;
  const [head, tail] = [Math.ceil(0.7 * limit), Math.floor(0.3 * limit)];
  return `${text.slice(0, head)} [... ${text.length - head - tail} characters ...] ${text.slice(-tail)}`;
}
