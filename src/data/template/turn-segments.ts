// Which part of the text a template writes for which message, told by one more rendering, be the messages ever so many:
// where a loop over the messages begins and ends the turn of one, the rendering writes marks. They count where the text
// without them is the text, each message has one such part, and nothing of other messages but their role is read for it.
//
// In its part a turn of the assistant begins behind the header and ends with its end marker. Both are known from probes:
// the header is what a prompt for generation adds, without thoughts that it may open; a marker is what stands behind the
// words of a turn, be it the last or an earlier one.
import type { Message } from "../conversation.js";
import { type Part, Watch } from "./watch.js";
import { type Chat, type Compiled, once, PROBE, run, tryRun } from "./chat.js";

/** Character range [start, end) of a text. */
export type Span = [start: number, end: number];

/** What the template writes for which message. */
interface Rendered {
  text: string;
  /** The part of each message by its place; undefined for those whose part is not sure. */
  segments: (Span | undefined)[];
  /** Messages with whose part the template writes something of others. */
  mixed: Set<number>;
}

export function renderSegments(compiled: Compiled, chat: Chat): Rendered {
  const { plain } = compiled;
  const watch = new Watch();
  const { text, parts } = watch.read(run(plain, chat, false, watch));
  // Where the template cannot look at what a loop wrote, marks change nothing.
  const isText = parts !== undefined && once(compiled, "output", chat, () => !keepsOutput(plain.parsed));
  const whole = isText ? text : run(plain, chat, false);
  const { mixed } = watch;
  return { text: whole, segments: parts === undefined || text !== whole ? [] : segmentsOf(parts, mixed), mixed };
}

function segmentsOf(parts: Part[], mixed: Set<number>): (Span | undefined)[] {
  const segments: (Span | undefined)[] = [];
  const unsure = new Set(mixed);
  for (const { message, start, end } of parts) {
    if (end === start) continue;
    if (segments[message] !== undefined) unsure.add(message);
    segments[message] = [start, end];
  }
  for (const message of unsure) segments[message] = undefined;
  return segments;
}

/** Whether a template has blocks whose output it can look at: macros, calls, filters, and variables set to a block. */
function keepsOutput(program: unknown): boolean {
  const left = [program];
  while (left.length > 0) {
    const node = left.pop();
    if (typeof node !== "object" || node === null) continue;
    const { type, value } = node as { type?: string; value?: unknown };
    if (/^(Macro|CallStatement|FilterStatement)$/.test(type ?? "") || (type === "Set" && !value)) return true;
    left.push(...(node instanceof Map ? [...node].flat() : Object.values(node)));
  }
  return false;
}

/** What a template writes around a turn of the assistant. */
interface Frame {
  /** Possible headers, the longest first. */
  headers: string[];
  /** Possible end markers, without blanks around them. */
  markers: string[];
}

const QUESTION: Message = { role: "user", content: PROBE.replace("probe", "question") };
const ANSWER: Message = { role: "assistant", content: PROBE };

/** Undefined where probes do not tell it. */
export function frameOf(compiled: Compiled, chat: Chat): Frame | undefined {
  return once(compiled, "frame", chat, () => findFrame(compiled, chat));
}

function findFrame(compiled: Compiled, chat: Chat): Frame | undefined {
  const { plain } = compiled;
  const asked = tryRun(plain, chat, 0, true, [QUESTION]);
  const bare = tryRun(plain, chat, 0, false, [QUESTION]);
  if (asked === undefined || bare === undefined || !asked.startsWith(bare)) return undefined;
  const whole = asked.slice(bare.length);
  const around = [
    [QUESTION, ANSWER],
    [QUESTION, ANSWER, QUESTION],
  ].flatMap((messages) => {
    if (tryRun(plain, chat, 0, false, messages) === undefined) return [];
    const { text, segments } = renderSegments(compiled, { ...chat, messages });
    if (segments[1] === undefined) return [];
    const [before, after, more] = text.slice(...segments[1]).split(PROBE);
    return after === undefined || more !== undefined ? [] : [{ before, after }];
  });
  if (around.length === 0) return undefined;
  // A prompt may open thoughts that turns do not have: then the header is what both have.
  const headers = new Set([whole, ...around.map(({ before }) => common(before, whole))]);
  if (whole.trim() === "" && around.some(({ before }) => before.trim() !== "")) return undefined;
  const sorted = [...headers].filter((header) => whole.trim() === "" || header.trim() !== "");
  return {
    headers: sorted.sort((a, b) => b.length - a.length),
    markers: [...new Set(around.map(({ after }) => after.trim()))],
  };
}

function common(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

/** The span of a turn of the assistant in its part; undefined where header or end marker are not those that are known. */
export function spanIn(
  text: string,
  [first, last]: Span,
  content: string,
  { headers, markers }: Frame,
): Span | undefined {
  const part = text.slice(first, last);
  const before = text.slice(0, first);
  const inside = headers.find((header) => part.startsWith(header));
  const start = inside !== undefined ? first + inside.length : endsWithOne(before, headers) ? first : undefined;
  if (start === undefined) return undefined;
  return endOf(text, start, last, content, markers);
}

const endsWithOne = (text: string, headers: string[]): boolean =>
  headers.some((header) => header !== "" && text.endsWith(header));

function endOf(text: string, start: number, last: number, content: string, markers: string[]): Span | undefined {
  const trimmed = text.slice(0, last).trimEnd().length;
  const marker = markers.find((each) => each !== "" && text.endsWith(each, trimmed) && trimmed - each.length >= start);
  if (marker !== undefined) return [start, trimmed];
  // White space alone is itself the end marker.
  const words = content.trimEnd();
  return markers.includes("") && words !== "" && text.endsWith(words, trimmed) ? [start, last] : undefined;
}
