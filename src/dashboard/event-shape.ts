// Which values are events of a run that the page can show. Figures that are missing or not numbers become gaps in a
// chart, because earlier versions had fewer; everything else that is drawn must be as training writes it. Unknown kinds
// pass.

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
/** A number that was not finite is null in a line. */
const isNumber = (value: unknown): boolean => typeof value === "number" || value === null;
const isLoad = (value: unknown): boolean =>
  isObject(value) && typeof value.layer === "number" && [value.maxOverMean, value.entropy, value.dead].every(isNumber);

const SHAPES = new Map<string, (event: Fields) => boolean>([
  ["step", ({ expertLoad = [] }) => Array.isArray(expertLoad) && expertLoad.every(isLoad)],
  ["eval", ({ network }) => network === "trained" || network === "ordinary"],
  ["sample", ({ prompt, text }) => typeof prompt === "string" && typeof text === "string"],
  ["message", ({ message }) => typeof message === "string"],
]);

export function isEvent(value: unknown): value is { kind: string; step: number } {
  if (!isObject(value) || typeof value.kind !== "string") return false;
  const isStep = Number.isSafeInteger(value.step) && (value.step as number) >= 0;
  return isStep && (SHAPES.get(value.kind)?.(value) ?? true);
}
