// One rendering of a conversation: the template that the tokenizer has for it, the variables that transformers gives to it,
// and what is said where there is none or it refuses. Compiled templates are kept as long as their tokenizer.
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
  /** More variables for the template, as {enable_thinking: false}. */
  kwargs?: Record<string, unknown>;
  /** The row, for messages about it. */
  place?: string;
}

export interface Chat extends ChatOptions {
  tokenizer: Tokenizer;
  messages: Message[];
}

// Unicode noncharacters: no text that is meant for exchange has them.
export const OPEN = "\uFDD0";
export const CLOSE = "\uFDD1";
export const PROBE = "\uFDD2probe\uFDD2";

export interface Compiled {
  plain: Template;
  /** Writes OPEN and CLOSE where {% generation %} begins and ends; undefined when the template has no such tags. */
  marked: Template | undefined;
  /** What was found out about the template with probes, by a name of who found it out. */
  known: Map<string, unknown>;
}

export const MEND =
  "Mend chat_template.jinja in the model's folder, or put the template of a model of that kind there.";
const READING = { what: "chat template: reading it", remedy: MEND };
const ROLES_SHOWN = 20;

const compiled = new WeakMap<Tokenizer, Map<string, Compiled>>();

/** The tokenizer's template for a conversation: one named tool_use where the row has tools, as transformers chooses. */
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
    // Statements before and after the sentinel keep what tags do to the white space around them.
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

/** What `find` returns, found out once for each template, variables of the template, and whether there are tools. */
export function once<T>({ known }: Compiled, name: string, { tools, kwargs }: ChatOptions, find: () => T): T {
  const variables = JSON.stringify(kwargs ?? {}, (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
  const key = `${name} ${tools === undefined} ${variables}`;
  if (known.has(key)) return known.get(key) as T;
  const found = find();
  // What one row does not tell, another may.
  if (found !== undefined) known.set(key, found);
  return found;
}

/** The text. Errors: UserError where the template refuses the messages; LimitExceeded. */
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

/** Names under which models and services know thoughts; transformers gives them to a template under the first two. */
export const THOUGHTS = ["reasoning_content", "thinking", "reasoning"];

/** A message as transformers gives it to a template: without empty keys, and thoughts by the names that templates read. */
function shown(message: Message): Record<string, unknown> {
  const thought = THOUGHTS.map((key) => message[key]).find((value) => value !== undefined && value !== null);
  const isPlain = thought === undefined && !Object.values(message).includes(null);
  if (isPlain) return message;
  const kept: Record<string, unknown> = { ...message };
  for (const key of Object.keys(kept)) if (kept[key] === null) delete kept[key];
  return thought === undefined ? kept : { thinking: thought, ...kept, reasoning_content: thought };
}

/** As run, of the first `count` messages and `more`; undefined where the template wants another beginning. Errors: LimitExceeded. */
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
