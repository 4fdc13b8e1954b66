// One rendering of a conversation: the tokenizer's template for it, the variables that transformers would give to it,
// and the messages if there is no template or it refuses. Compiled templates live as long as their tokenizer.
import type { Template } from "@huggingface/jinja";
import { UserError } from "../../errors.js";
import type { Message } from "../conversations/sample.js";
import { LimitExceeded, quoted, TIME_LIMITS } from "../limits.js";
import { inTime } from "../time-limit.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { readTemplate, renderTemplate } from "./bounded-template.js";
import type { Watch } from "./watch.js";

export interface ChatOptions {
  /** Tool descriptions, for templates that show them. */
  tools?: unknown[];
  /** Additional variables for the template, as {enable_thinking: false}. */
  kwargs?: Record<string, unknown>;
  /** The row's place, for messages. */
  place?: string;
}

export interface Chat extends ChatOptions {
  tokenizer: Tokenizer;
  messages: Message[];
}

// Unicode noncharacters, which no text for exchange contains.
export const OPEN = "\uFDD0";
export const CLOSE = "\uFDD1";
export const PROBE = "\uFDD2probe\uFDD2";

export interface Compiled {
  plain: Template;
  /** Writes OPEN and CLOSE where {% generation %} begins and ends; undefined if the template has no such tags. */
  marked: Template | undefined;
  /** Facts about the template that probes have found, by name. */
  known: Map<string, unknown>;
}

export const MEND =
  "Mend chat_template.jinja in the model's folder, or put the template of a model of that kind there.";
const READING = { what: "chat template: reading it", remedy: MEND };
const ROLES_SHOWN = 20;

const compiled = new WeakMap<Tokenizer, Map<string, Compiled>>();

/**
 * The tokenizer's template for a conversation. Like transformers, takes the one named tool_use if the row has tools.
 */
export function compile(tokenizer: Tokenizer, { tools, place }: ChatOptions): Compiled {
  const source = (tools !== undefined ? tokenizer.chatTemplates.tool_use : undefined) ?? tokenizer.chatTemplate;
  if (source === undefined) {
    throw new UserError(
      `${at(place)}the rows are conversations, but the tokenizer has no chat template (expected chat_template in ` +
        "tokenizer_config.json, or the file " +
        "chat_template.jinja). Add the model's template to its folder, or give rows as text or as plain prompt " +
        "and completion.",
    );
  }
  const ofTokenizer = compiled.get(tokenizer) ?? new Map<string, Compiled>();
  compiled.set(tokenizer, ofTokenizer);
  const known = ofTokenizer.get(source);
  if (known !== undefined) return known;
  const made = inTime(
    () => TIME_LIMITS.read,
    READING,
    () => readBoth(source),
  );
  ofTokenizer.set(source, made);
  return made;
}

function readBoth(source: string): Compiled {
  try {
    // Statements before and after the sentinel treat the white space around them as the tags do.
    const blank = "{%$1 set revmoe_mark = 0 %}";
    const marking = source.replace(
      /\{%(-?)\s*(end)?generation\s*(-?)%\}/g,
      (_, left: string, end: string | undefined, right: string) =>
        `${blank.replace("$1", left)}{{ "${end === undefined ? OPEN : CLOSE}" }}{% set revmoe_mark = 0 ${right}%}`,
    );
    const marked = marking === source ? undefined : readTemplate(marking);
    return { plain: readTemplate(source), marked, known: new Map() };
  } catch (error) {
    throw new UserError(`chat template: it cannot be read: ${quoted((error as Error).message)}. ${MEND}`);
  }
}

/** Calls `find` once for each template, its variables, and with or without tools; then returns the known result. */
export function once<T>({ known }: Compiled, name: string, { tools, kwargs }: ChatOptions, find: () => T): T {
  const variables = JSON.stringify(kwargs ?? {}, (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  const key = `${name} ${tools === undefined} ${variables}`;
  if (known.has(key)) return known.get(key) as T;
  const found = find();
  // Another row may tell what this one does not.
  if (found !== undefined) known.set(key, found);
  return found;
}

/** The rendered text. Errors: UserError if the template refuses the messages; LimitExceeded. */
export function run(template: Template, chat: Chat, addGenerationPrompt: boolean, watch?: Watch): string {
  const { tokenizer, messages, tools, kwargs, place } = chat;
  const variables = {
    ...tokenizer.specialTokens,
    ...kwargs,
    messages: messages.map(shown),
    tools: tools ?? null,
    documents: null,
    add_generation_prompt: addGenerationPrompt,
  };
  try {
    return renderTemplate(template, variables, watch);
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

/** Keys of thoughts in models and services; transformers gives them to a template as the first two. */
export const THOUGHTS = ["reasoning_content", "thinking", "reasoning"];

/**
 * A message as transformers gives it to a template: without null keys, and with thoughts under the keys that templates
 * read.
 */
function shown(message: Message): Record<string, unknown> {
  const thought = THOUGHTS.map((key) => message[key]).find((value) => value !== undefined && value !== null);
  const isPlain = thought === undefined && !Object.values(message).includes(null);
  if (isPlain) return message;
  const kept: Record<string, unknown> = { ...message };
  for (const key of Object.keys(kept)) if (kept[key] === null) delete kept[key];
  return thought === undefined ? kept : { thinking: thought, ...kept, reasoning_content: thought };
}

/**
 * Like `run` for the first `count` messages and `more`; undefined if the template refuses such a beginning. Errors:
 * LimitExceeded.
 */
export function tryRun(
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

export function unverifiable({ place }: Chat, what: string): never {
  throw new UserError(
    `${at(place)}${what}, so the assistant's tokens are not known for certain. ` +
      "Set assistant_only_loss: false to train on all tokens, or add {% generation %} tags to the chat template.",
  );
}

export function at(place: string | undefined): string {
  return place === undefined ? "chat template: " : `${place}: `;
}
