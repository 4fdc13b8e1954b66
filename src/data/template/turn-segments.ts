// Which part of the text a template writes for each message, found with one more rendering for any number of messages:
// where a loop over the messages begins and ends one message's turn, the rendering writes marks. The marks are valid if
// the text without them is the original text, each message has exactly one part, and of other messages only the role
// was read for it.
//
// In its part, the assistant's turn begins after the header and ends with its end marker. Probes show both: the header
// is what a generation prompt adds, without thoughts that it may open; a marker is what follows the words of a turn, be
// it the last or an earlier one.
import type { Message } from "../conversations/sample.js";
import { type Part, Watch } from "./watch.js";
import { type Chat, type Compiled, once, PROBE, run, tryRun } from "./chat.js";

/** Character range [start, end) of a text. */
export type Span = [start: number, end: number];

/** A rendering, and the part of each message. */
export interface Rendered {
  text: string;
  /** The part of each message, by index; undefined if it is not certain. */
  segments: (Span | undefined)[];
  /** Messages for which the template also reads something of other messages. */
  mixed: Set<number>;
}

export function renderSegments(compiled: Compiled, chat: Chat, addGenerationPrompt = false): Rendered {
  const { plain } = compiled;
  const watch = new Watch();
  const { text, parts } = watch.read(run(plain, chat, addGenerationPrompt, watch));
  // If the template cannot read what a loop wrote, marks change nothing.
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

/** Whether a template has blocks whose output it can read: macros, calls, filters, and variables set to a block. */
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
  /** Possible end markers, trimmed. */
  markers: string[];
  /** What the template writes after all turns, without blanks at its end. */
  tail: string;
}

const QUESTION: Message = { role: "user", content: PROBE.replace("probe", "question") };
const ANSWER: Message = { role: "assistant", content: PROBE };

/** Undefined if probes do not show it. */
export function frameOf(compiled: Compiled, chat: Chat): Frame | undefined {
  // Tools differ from row to row; but some templates need some.
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
  // A prompt may open thoughts that turns do not have. Then the header is what both have.
  const headers = new Set([whole, ...around.map(({ before }) => common(before, whole))]);
  if (whole.trim() === "" && around.some(({ before }) => before.trim() !== "")) return undefined;
  const sorted = [...headers].filter((header) => whole.trim() === "" || header.trim() !== "");
  return {
    headers: sorted.sort((a, b) => b.length - a.length),
    markers: [...new Set(around.map(({ after }) => after.trim()))],
    // The first probe's tail is what follows a turn that is the last.
    tail: around[0].tail,
  };
}

function common(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

/**
 * The span of messages[i], a turn of the assistant, in its part; undefined if the part lacks what the frame requires.
 */
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
  // A turn with only tool calls may end differently. Then no known end marker may follow its part.
  const next = segments.slice(i + 1).find((part) => part !== undefined)?.[0] ?? text.length;
  const isWhole = text.slice(last, next).trim() === "";
  const follows = text.slice(last).trimStart();
  if (!isWhole || frame.markers.some((marker) => marker !== "" && follows.startsWith(marker))) return undefined;
  // If there is only white space, it is the end marker.
  const isBlank = trimmed <= start || (words !== "" && text.slice(start, trimmed).endsWith(words));
  return [start, isBlank && frame.markers.includes("") ? last : Math.max(start, trimmed)];
}
