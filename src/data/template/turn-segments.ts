// Which part of the text a template writes for which message, told by one more rendering, be the messages ever so many:
// where a loop over the messages begins and ends the turn of one, the rendering writes marks. They count where the text
// without them is the text, each message has one such part, and nothing of other messages but their role is read for it.
//
// In its part a turn of the assistant begins behind the header and ends with its end marker. Both are known from probes:
// the header is what a prompt for generation adds, without thoughts that it may open; a marker is what stands behind the
// words of a turn, be it the last or an earlier one.
import type { Message } from "../conversations/sample.js";
import { type Part, Watch } from "./watch.js";
import { type Chat, type Compiled, once, PROBE, run, tryRun } from "./chat.js";

/** Character range [start, end) of a text. */
export type Span = [start: number, end: number];

/** What the template writes for which message. */
export interface Rendered {
  text: string;
  /** The part of each message by its place; undefined for those whose part is not sure. */
  segments: (Span | undefined)[];
  /** Messages with whose part the template writes something of others. */
  mixed: Set<number>;
}

export function renderSegments(compiled: Compiled, chat: Chat, addGenerationPrompt = false): Rendered {
  const { plain } = compiled;
  const watch = new Watch();
  const { text, parts } = watch.read(run(plain, chat, addGenerationPrompt, watch));
  // Where the template cannot look at what a loop wrote, marks change nothing.
  const isText = parts !== undefined && once(compiled, "output", chat, () => !keepsOutput(plain.parsed));
  const whole = isText ? text : run(plain, chat, addGenerationPrompt);
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
  /** What the template puts behind all turns, without blanks at its end. */
  tail: string;
}

const QUESTION: Message = { role: "user", content: PROBE.replace("probe", "question") };
const ANSWER: Message = { role: "assistant", content: PROBE };

/** Undefined where probes do not tell it. */
export function frameOf(compiled: Compiled, chat: Chat): Frame | undefined {
  // Tools belong to a row. Some templates need some.
  const find = (): Frame | undefined => findFrame(compiled, { ...chat, tools: undefined }) ?? findFrame(compiled, chat);
  return once(compiled, "frame", chat, find);
}

function findFrame(compiled: Compiled, chat: Chat): Frame | undefined {
  const render = (messages: Message[], prompt = false): Rendered | undefined =>
    tryRun(compiled.plain, chat, 0, prompt, messages) === undefined
      ? undefined
      : renderSegments(compiled, { ...chat, messages }, prompt);
  const [asked, bare] = [render([QUESTION], true), render([QUESTION])];
  const [question, unasked] = [asked?.segments[0], bare?.segments[0]];
  if (!asked || !bare || !question || !unasked) return undefined;
  const shown = bare.text.slice(...unasked);
  if (!asked.text.startsWith(shown, question[0])) return undefined;
  const whole = asked.text.slice(question[0] + shown.length);
  const around = [
    [QUESTION, ANSWER],
    [QUESTION, ANSWER, QUESTION],
  ].flatMap((messages) => {
    const { text, segments } = render(messages) ?? { text: "", segments: [] };
    if (segments[1] === undefined) return [];
    const [before, after, more] = text.slice(...segments[1]).split(PROBE);
    const tail = text.slice(segments[1][1]).trimEnd();
    return after === undefined || more !== undefined ? [] : [{ before, after, tail }];
  });
  if (around.length === 0) return undefined;
  // A prompt may open thoughts that turns do not have: then the header is what both have.
  const headers = new Set([whole, ...around.map(({ before }) => common(before, whole))]);
  if (whole.trim() === "" && around.some(({ before }) => before.trim() !== "")) return undefined;
  const sorted = [...headers].filter((header) => whole.trim() === "" || header.trim() !== "");
  return {
    headers: sorted.sort((a, b) => b.length - a.length),
    markers: [...new Set(around.map(({ after }) => after.trim()))],
    // The first of them is what a turn is followed by where it is the last.
    tail: around[0].tail,
  };
}

function common(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

/** The span of messages[i], a turn of the assistant, in its part; undefined where it has not what turns are known to have. */
export function spanIn({ text, segments }: Rendered, i: number, content: string, frame: Frame): Span | undefined {
  const segment = segments[i];
  if (segment === undefined) return undefined;
  const [first, last] = segment;
  const before = text.slice(0, first);
  const inside = frame.headers.find((header) => text.startsWith(header, first) && first + header.length <= last);
  const isBefore = frame.headers.some((header) => header !== "" && before.endsWith(header));
  if (inside === undefined && !isBefore) return undefined;
  const start = first + (inside ?? "").length;
  const words = content.trimEnd();
  const trimmed = text.slice(0, last).trimEnd().length;
  const isEnded = frame.markers.some((marker) => marker !== "" && text.slice(start, trimmed).endsWith(marker));
  const isLast = i === segments.length - 1 && frame.tail !== "" && text.slice(last).trimEnd() === frame.tail;
  if (isLast) return [start, last + frame.tail.length];
  if (isEnded) return [start, trimmed];
  // A turn that only calls may end otherwise. Then its end marker must not be what the next turn's part begins with.
  const next = segments.slice(i + 1).find((part) => part !== undefined)?.[0] ?? text.length;
  const isWhole = text.slice(last, next).trim() === "";
  const follows = text.slice(last).trimStart();
  if (!isWhole || frame.markers.some((marker) => marker !== "" && follows.startsWith(marker))) return undefined;
  // White space alone is itself the end marker.
  const isBlank = trimmed <= start || (words !== "" && text.slice(start, trimmed).endsWith(words));
  return [start, isBlank && frame.markers.includes("") ? last : Math.max(start, trimmed)];
}
