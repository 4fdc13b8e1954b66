// Chat templates: a conversation as the text that the model knows, and which characters of it the assistant wrote.
// Templates do not say the latter, so there are three ways to find it, and the surest one that works is used: {%
// generation %} tags; the part of the text that the template writes for a message (turn-segments.ts); renderings of all
// before a turn (prefix-spans.ts). What cannot be verified is refused. A turn's span includes its end marker, which the
// model must learn to write, but not white space after it.
import type { Message } from "../conversations/sample.js";
import { ROW_LIMITS, secondsFor } from "../limits.js";
import { inTime } from "../time-limit.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import {
  at,
  type Chat,
  type ChatOptions,
  CLOSE,
  type Compiled,
  compile,
  MEND,
  OPEN,
  run,
  unverifiable,
} from "./chat.js";
import { spanByPrefix } from "./prefix-spans.js";
import { withParsedArguments } from "./tool-arguments.js";
import { frameOf, renderSegments, type Span, spanIn } from "./turn-segments.js";

export type { ChatOptions, Span };

/** A conversation as text, with the spans of the assistant's turns. */
export interface Masked {
  text: string;
  /** Spans in order; a turn that is not shown has none. */
  trained: Span[];
  /** The index of the message that each of `trained` belongs to. */
  turns: number[];
}

const RENDERING = {
  what: "rendering the conversation with the chat template",
  remedy: `The conversation is far too long, or the template does not end. Shorten the row. ${MEND}`,
};

/**
 * The conversation as text. Errors: UserError if there is no template, or if it refuses the messages or passes a limit.
 */
export function renderChat(
  tokenizer: Tokenizer,
  messages: Message[],
  { addGenerationPrompt, ...options }: ChatOptions & { addGenerationPrompt: boolean },
): string {
  return rendering({ tokenizer, messages, ...options }, ({ plain }, chat) => run(plain, chat, addGenerationPrompt));
}

/**
 * The conversation as text, and the spans of the assistant's turns in it, in order. Errors: as renderChat, and
 * UserError if the spans are not certain.
 */
export function renderWithMask(tokenizer: Tokenizer, messages: Message[], options: ChatOptions = {}): Masked {
  return rendering({ tokenizer, messages, ...options }, masked);
}

/**
 * The conversation as text, and each message's part of it, with header and end marker; undefined if a part is not
 * certain. Errors: as renderChat.
 */
export function renderWithTurns(
  tokenizer: Tokenizer,
  messages: Message[],
  options: ChatOptions = {},
): { text: string; turns: (Span | undefined)[] } {
  return rendering({ tokenizer, messages, ...options }, (compiled, chat) => {
    const { text, segments: turns } = renderSegments(compiled, chat);
    return { text, turns };
  });
}

function rendering<T>(chat: Chat, work: (compiled: Compiled, chat: Chat) => T): T {
  const compiled = compile(chat.tokenizer, chat);
  return inTime(
    () => secondsFor(chat.messages, chat.messages.length),
    RENDERING,
    () => work(compiled, withParsedArguments(compiled, chat)),
    () => at(chat.place),
  );
}

function masked(compiled: Compiled, chat: Chat): Masked {
  const { messages } = chat;
  if (compiled.marked !== undefined)
    return tagged(compiled, chat, run(compiled.plain, chat, false), run(compiled.marked, chat, false));
  const rendered = renderSegments(compiled, chat);
  const { text, mixed } = rendered;
  const frame = frameOf(compiled, chat);
  const trained: Span[] = [];
  const turns: number[] = [];
  for (const [i, { role, content }] of messages.entries()) {
    if (role !== "assistant") continue;
    const cursor = trained.at(-1)?.[1] ?? 0;
    const sure = frame && spanIn(rendered, i, content ?? "", frame);
    if (sure === undefined && messages.length > ROW_LIMITS.messages) {
      unverifiable(
        chat,
        `there are ${messages.length} messages (expected at most ${ROW_LIMITS.messages}, as each answer is looked for)`,
      );
    }
    const span = sure ?? spanByPrefix(chat, compiled.plain, text, i, mixed.has(i) ? undefined : cursor);
    if (span === undefined || span[0] < cursor)
      unverifiable(chat, `messages[${i}] cannot be told apart in the rendered text`);
    if (span[1] === span[0]) continue;
    trained.push(span);
    turns.push(i);
  }
  return { text, trained, turns };
}

function tagged(compiled: Compiled, chat: Chat, text: string, marked: string): Masked {
  const trained: Span[] = [];
  let length = 0;
  let start = -1;
  for (const part of marked.split(/([\uFDD0\uFDD1])/)) {
    if (part === OPEN && start === -1) start = length;
    else if (part === CLOSE && start !== -1) {
      if (length > start) trained.push([start, length]);
      start = -1;
    } else length += part.length;
  }
  const whole = start === -1 && marked.replaceAll(/[\uFDD0\uFDD1]/g, "") === text;
  if (!whole) unverifiable(chat, "the template's {% generation %} tags change the text or do not close");
  return { text, trained, turns: turnsOf(compiled, chat, trained) };
}

/**
 * The messages that tagged spans belong to: the assistant's messages if there are as many, else those whose parts hold
 * the spans.
 */
function turnsOf(compiled: Compiled, chat: Chat, trained: Span[]): number[] {
  const answers = chat.messages.flatMap(({ role }, i) => (role === "assistant" ? [i] : []));
  if (answers.length === trained.length) return answers;
  const { segments } = renderSegments(compiled, chat);
  return trained.map(([start, end]) => segments.findIndex((part) => part && part[0] <= start && end <= part[1]));
}
