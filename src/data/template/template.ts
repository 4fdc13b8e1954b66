// Chat templates: a conversation as the text the model knows, and which characters of it the assistant wrote.
// Templates do not tell the latter, so it is found in three ways, the surest that works: {% generation %} tags;
// renderings of ever longer prefixes of the conversation, each the beginning of the next; a search for each turn
// between the header that the generation prompt shows and the end marker that a probe shows. What cannot be verified
// is refused. A turn's span ends behind its end marker, which the model must learn to write, but before white space
// after that.
import type { Template } from "@huggingface/jinja";
import { UserError } from "../../errors.js";
import { readTemplate, renderTemplate } from "./bounded-template.js";
import { mayTakeLong } from "./bounds.js";
import type { Message } from "../conversation.js";
import { LimitExceeded, quoted, ROW_LIMITS, secondsFor, TIME_LIMITS } from "../limits.js";
import { inTime } from "../time-limit.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** Character range [start, end) of a text. */
export type Span = [start: number, end: number];

export interface ChatOptions {
  /** Tool descriptions, for templates that show them. */
  tools?: unknown[];
  /** The row, for messages about it. */
  place?: string;
}

interface Chat extends ChatOptions {
  tokenizer: Tokenizer;
  messages: Message[];
}

// Unicode noncharacters: no text that is meant for exchange has them.
const OPEN = "\uFDD0";
const CLOSE = "\uFDD1";
const PROBE = "\uFDD2probe\uFDD2";

interface Compiled {
  plain: Template;
  /** Writes OPEN and CLOSE where {% generation %} begins and ends; undefined when the template has no such tags. */
  marked: Template | undefined;
}

const MEND = "Mend chat_template.jinja in the model's folder, or put the template of a model of that kind there.";
const RENDERING = {
  what: "rendering the conversation with the chat template",
  remedy: `The conversation is far too long, or the template does not end. Shorten the row. ${MEND}`,
};
const READING = { what: "chat template: reading it", remedy: MEND };
const ROLES_SHOWN = 20;

const compiled = new WeakMap<Tokenizer, Compiled>();

/** The conversation as text. Errors: UserError when there is no template, it refuses the messages, or goes beyond a limit. */
export function renderChat(
  tokenizer: Tokenizer,
  messages: Message[],
  { addGenerationPrompt, ...options }: ChatOptions & { addGenerationPrompt: boolean },
): string {
  const { plain } = compile(tokenizer, options.place);
  return rendering({ tokenizer, messages, ...options }, (chat) => run(plain, chat, addGenerationPrompt));
}

/**
 * The conversation as text, and the spans of it that the assistant's turns are, in order.
 * Errors: as renderChat, and UserError when the spans cannot be told for certain.
 */
export function renderWithMask(
  tokenizer: Tokenizer,
  messages: Message[],
  options: ChatOptions = {},
): { text: string; trained: Span[] } {
  const compiled = compile(tokenizer, options.place);
  return rendering({ tokenizer, messages, ...options }, (chat) => masked(compiled, chat));
}

function rendering<T>(chat: Chat, work: (chat: Chat) => T): T {
  return inTime(
    () => secondsFor(chat.messages, chat.messages.length),
    RENDERING,
    () => work(chat),
    () => at(chat.place),
  );
}

function masked({ plain, marked }: Compiled, chat: Chat): { text: string; trained: Span[] } {
  const { messages } = chat;
  if (marked === undefined && messages.length > ROW_LIMITS.messages) {
    unverifiable(
      chat,
      `there are ${messages.length} messages (expected at most ${ROW_LIMITS.messages}, as each answer is looked for)`,
    );
  }
  const text = run(plain, chat, false);
  if (marked !== undefined) return { text, trained: taggedSpans(run(marked, chat, false), text, chat) };
  const trained: Span[] = [];
  for (const [i, { role }] of messages.entries()) {
    if (role !== "assistant") continue;
    const cursor = trained.at(-1)?.[1] ?? 0;
    const before = promptOf(chat, plain, i);
    const span = prefixSpan(chat, plain, text, i, before) ?? searchedSpan(chat, plain, text, i, before, cursor);
    if (span === undefined || span[0] < cursor)
      unverifiable(chat, `messages[${i}] cannot be told apart in the rendered text`);
    if (span[1] > span[0]) trained.push(span);
  }
  return { text, trained };
}

function compile(tokenizer: Tokenizer, place?: string): Compiled {
  const known = compiled.get(tokenizer);
  if (known !== undefined) return known;
  const source = tokenizer.chatTemplate;
  if (source === undefined) {
    throw new UserError(
      `${at(place)}the rows are conversations, but the tokenizer has no chat template (expected chat_template in ` +
        "tokenizer_config.json, or the file " +
        "chat_template.jinja). Add the model's template to its folder, or give rows as text or as plain prompt " +
        "and completion.",
    );
  }
  return inTime(
    () => TIME_LIMITS.read,
    READING,
    () => readBoth(tokenizer, source),
  );
}

function readBoth(tokenizer: Tokenizer, source: string): Compiled {
  try {
    // Statements before and after the sentinel keep what tags do to the white space around them.
    const blank = "{%$1 set revmoe_mark = 0 %}";
    const marking = source.replace(
      /\{%(-?)\s*(end)?generation\s*(-?)%\}/g,
      (_, left: string, end: string | undefined, right: string) =>
        `${blank.replace("$1", left)}{{ "${end === undefined ? OPEN : CLOSE}" }}{% set revmoe_mark = 0 ${right}%}`,
    );
    const both = { plain: readTemplate(source), marked: marking === source ? undefined : readTemplate(marking) };
    compiled.set(tokenizer, both);
    return both;
  } catch (error) {
    throw new UserError(`chat template: it cannot be read: ${quoted((error as Error).message)}. ${MEND}`);
  }
}

function run(template: Template, { tokenizer, messages, tools, place }: Chat, addGenerationPrompt: boolean): string {
  try {
    return renderTemplate(template, {
      ...tokenizer.specialTokens,
      messages,
      tools: tools ?? null,
      add_generation_prompt: addGenerationPrompt,
    });
  } catch (error) {
    const what = quoted((error as Error).message);
    if (error instanceof LimitExceeded)
      throw new LimitExceeded(`${at(place)}the chat template goes too far: ${what}. ${MEND}`);
    const roles = messages.slice(0, ROLES_SHOWN).map(({ role }) => role);
    const more = messages.length > ROLES_SHOWN ? `, and ${messages.length - ROLES_SHOWN} more` : "";
    throw new UserError(
      `${at(place)}the chat template refuses these messages: ${what}. Roles: ${roles.join(", ")}${more}.`,
    );
  }
}

/** As run, of the first `count` messages and `more`; undefined where the template wants another beginning. Errors: LimitExceeded. */
function tryRun(
  template: Template,
  chat: Chat,
  count: number,
  addGenerationPrompt: boolean,
  more: Message[] = [],
): string | undefined {
  try {
    return run(template, { ...chat, messages: [...chat.messages.slice(0, count), ...more] }, addGenerationPrompt);
  } catch (error) {
    if (error instanceof LimitExceeded) throw error;
    return undefined;
  }
}

/** All before a turn, with the generation prompt. */
function promptOf(chat: Chat, template: Template, i: number): string | undefined {
  const prompt = tryRun(template, chat, i, true);
  if (prompt === undefined || i > 0) return prompt;
  // Some templates write the generation prompt in their loop over the messages, of which a conversation that begins with
  // the assistant has none before it: what they add behind a question tells the header.
  const question = [{ role: "user", content: PROBE }];
  const bare = tryRun(template, chat, 0, false, question);
  const asked = tryRun(template, chat, 0, true, question);
  const header = bare !== undefined && asked?.startsWith(bare) ? asked.slice(bare.length) : "";
  return prompt.endsWith(header) ? prompt : prompt + header;
}

function taggedSpans(marked: string, text: string, chat: Chat): Span[] {
  const spans: Span[] = [];
  let length = 0;
  let start = -1;
  for (const part of marked.split(/([\uFDD0\uFDD1])/)) {
    if (part === OPEN && start === -1) start = length;
    else if (part === CLOSE && start !== -1) {
      if (length > start) spans.push([start, length]);
      start = -1;
    } else length += part.length;
  }
  const whole = start === -1 && marked.replaceAll(/[\uFDD0\uFDD1]/g, "") === text;
  if (!whole) unverifiable(chat, "the template's {% generation %} tags change the text or do not close");
  return spans;
}

/** The span between "all before, and the generation prompt" and "all up to this turn", if both begin the whole text. */
function prefixSpan(
  chat: Chat,
  template: Template,
  text: string,
  i: number,
  before: string | undefined,
): Span | undefined {
  const after = i === chat.messages.length - 1 ? text : tryRun(template, chat, i + 1, false);
  if (before === undefined || after === undefined || !after.startsWith(before) || !text.startsWith(after))
    return undefined;
  const turn = after.slice(before.length);
  const content = (chat.messages[i].content ?? "").trim();
  const found = content === "" || mayTakeLong(content, turn) ? -1 : turn.lastIndexOf(content);
  const tail = found === -1 ? turn : turn.slice(found + content.length);
  // White space alone is itself the end marker.
  const ending = tail.trim() === "" ? turn : turn.trimEnd();
  return [before.length, before.length + ending.length];
}

/**
 * The span of a turn whose rendering depends on what follows it: some templates show only the last turn's thoughts.
 * It begins behind the header, and the end marker must follow the content at once.
 */
function searchedSpan(
  chat: Chat,
  template: Template,
  text: string,
  i: number,
  before: string | undefined,
  cursor: number,
): Span | undefined {
  const probed = tryRun(template, chat, i, false, [{ role: "assistant", content: PROBE }]);
  if (before === undefined || !probed?.includes(PROBE)) return undefined;
  const tail = probed.slice(probed.lastIndexOf(PROBE) + PROBE.length);
  const marker = tail.trim() === "" ? tail : tail.trimEnd();
  const start = text.startsWith(before) ? before.length : behindHeader(chat, template, text, before, i, cursor);
  if (start === undefined || marker === "") return undefined;
  const { content, tool_calls: calls } = chat.messages[i];
  const given = content ?? "";
  const behindThoughts = given.split("</think>").at(-1) ?? "";
  for (const shown of new Set([given, given.trim(), behindThoughts.trim()])) {
    const found = calls === undefined ? text.indexOf(shown + marker, start) : text.indexOf(shown, start);
    if (found === -1 || text.slice(start, found).includes(marker)) continue;
    const end = text.indexOf(marker, found + shown.length);
    if (end !== -1) return [start, end + marker.length];
  }
  return undefined;
}

/** Where the next assistant header from `cursor` on ends; the header is what the generation prompt adds. */
function behindHeader(
  chat: Chat,
  template: Template,
  text: string,
  before: string,
  i: number,
  cursor: number,
): number | undefined {
  const bare = tryRun(template, chat, i, false);
  if (bare === undefined || !before.startsWith(bare)) return undefined;
  const header = before.slice(bare.length);
  const found = header.trim() === "" ? -1 : text.indexOf(header, cursor);
  return found === -1 ? undefined : found + header.length;
}

function unverifiable({ place }: Chat, what: string): never {
  throw new UserError(
    `${at(place)}${what}, so the assistant's tokens are not known for certain. ` +
      "Set assistant_only_loss: false to train on all tokens, or add {% generation %} tags to the chat template.",
  );
}

function at(place: string | undefined): string {
  return place === undefined ? "chat template: " : `${place}: `;
}
