// Which part of the text a template writes for which message, told by one more rendering, be the messages ever so many:
// where a loop over the messages begins and ends the turn of one, the rendering writes marks. They count where the text
// without them is the text, each message has one such part, and nothing of other messages but their role is read for it.
//
// In its part a turn of the assistant begins behind the header and ends with its end marker. Both are known from probes:
// the header is what a prompt for generation adds, without thoughts that it may open; a marker is what stands behind the
// words of a turn, be it the last or an earlier one.
import type { Message } from "../conversation.js";
import { Watch } from "./watch.js";
import { type Chat, type Compiled, once, PROBE, run, tryRun } from "./chat.js";

/** Character range [start, end) of a text. */
export type Span = [start: number, end: number];

/** The part of each message by its place; undefined for those whose part is not sure. */
export function segmentsOf({ plain }: Compiled, chat: Chat, text: string): (Span | undefined)[] {
  const watch = new Watch();
  const marked = run(plain, chat, false, watch);
  const segments: (Span | undefined)[] = [];
  const { text: unmarked, parts } = watch.read(marked);
  if (unmarked !== text) return segments;
  const doubled = new Set<number>();
  for (const { message, start, end } of parts) {
    if (end === start) continue;
    if (segments[message] !== undefined || watch.mixed.has(message)) doubled.add(message);
    segments[message] = [start, end];
  }
  for (const message of doubled) segments[message] = undefined;
  return segments;
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
    const text = tryRun(plain, chat, 0, false, messages);
    const segment = text === undefined ? undefined : segmentsOf(compiled, { ...chat, messages }, text)[1];
    if (text === undefined || segment === undefined) return [];
    const [before, after, more] = text.slice(...segment).split(PROBE);
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
