// What a chat template does not show: a key of the rows without which the text is the same. A few rows with the key are
// rendered with and without it to find out; all rows are counted.
import { UserError } from "../../errors.js";
import { formatNumberOf } from "../../format.js";
import type { Message } from "../conversations/sample.js";
import { LimitExceeded, quoted } from "../limits.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { THOUGHTS } from "./chat.js";
import { type ChatOptions, renderChat } from "./template.js";

/** A key that is not shown, and its number of rows; `place` names the first of them. */
export interface UnshownField {
  /** A key of messages; or "tools" of a row, "content of role ROLE", or EARLIER. */
  key: string;
  rows: number;
  place: string | undefined;
}

interface Conversation extends ChatOptions {
  messages: Message[];
}

interface Field extends SeenField {
  tried: number;
}

/**
 * A key is searched for in the texts of this many rows, until one shows it, since a template may show it only in some
 * places.
 */
const ROWS_TRIED = 20;
/** Keys that a template need not show: role, content, and those that say whether a turn is trained. */
const OTHERS = new Set(["role", "content", "weight", "train"]);
const PROBE = "\uFDD2";
const EARLIER = "thoughts before the last question";
const THOUGHT_END = "</think>";

/** Takes rows one after the other, and finds what of them is not shown. */
export interface FieldWatch {
  /** Errors: as renderChat, if the template refuses the row. */
  see(conversation: Conversation): void;
  /** All keys of the rows seen since the last call, to be summed over threads. */
  taken(): SeenField[];
}

/** A key of some rows, and whether the template has shown it at least once. */
export interface SeenField extends UnshownField {
  isShown: boolean;
}

/** The sum of what was seen of rows `a` and of later rows `b`. */
export function addFields(a: readonly SeenField[], b: readonly SeenField[]): SeenField[] {
  const sum = new Map(a.map((field) => [field.key, field]));
  for (const field of b) {
    const before = sum.get(field.key);
    const both = before && { ...before, rows: before.rows + field.rows, isShown: before.isShown || field.isShown };
    sum.set(field.key, both ?? field);
  }
  return [...sum.values()];
}

export const unshownOf = (fields: readonly SeenField[]): UnshownField[] =>
  fields.filter(({ isShown }) => !isShown).map(({ key, rows, place }) => ({ key, rows, place }));

export function watchFields(tokenizer: Tokenizer, kwargs?: Record<string, unknown>): FieldWatch {
  const fields = new Map<string, Field>();
  const see = (conversation: Conversation): void => {
    for (const key of keysOf(conversation)) {
      const field = fields.get(key) ?? { key, rows: 0, place: conversation.place, tried: 0, isShown: false };
      fields.set(key, field);
      field.rows++;
      field.place ??= conversation.place;
      if (field.isShown || field.tried >= ROWS_TRIED) continue;
      field.tried++;
      field.isShown = isShown(tokenizer, { kwargs, ...conversation }, key);
    }
  };
  const taken = (): SeenField[] => {
    const seen = [...fields.values()].filter(({ rows }) => rows > 0);
    const taken = seen.map(({ key, rows, place, isShown }) => ({ key, rows, place, isShown }));
    for (const field of seen) Object.assign(field, { rows: 0, place: undefined });
    return taken;
  };
  return { see, taken };
}

/**
 * Notes about what is not shown, one sentence each. Errors: UserError if that is part of what the assistant writes and
 * will be trained: its words, its calls of tools.
 */
export function unshownNotes(fields: UnshownField[]): string[] {
  const remedy =
    "Give the model's folder a chat template that shows it (chat_template.jinja), or take it out of the rows.";
  return fields.map(({ key, rows, place }) => {
    const count = formatNumberOf(rows, "row");
    if (key === EARLIER) return earlierNote(count, place);
    const what = `the chat template does not show "${quoted(key)}" of ${count}`;
    if (key === "tool_calls" || key === "content of role assistant")
      throw new UserError(
        `${place ?? "chat template"}: ${what}, so what the assistant writes there would not be trained. ${remedy}`,
      );
    return `${what}${firstIn(place)}: the model does not see it. ${remedy}`;
  });
}

const earlierNote = (count: string, place: string | undefined): string =>
  `the chat template leaves out thoughts of answers before the last question, in ${count}${firstIn(place)}: the model sees ` +
  "those answers, and learns them, without thoughts. Set train_on: last to train the last answer alone, or give each answer " +
  "a row that ends with it.";

const firstIn = (place: string | undefined): string => (place === undefined ? "" : `, first in ${place}`);

function keysOf({ messages, tools }: Conversation): Set<string> {
  const keys = new Set<string>();
  if (tools !== undefined && tools.length > 0) keys.add("tools");
  const before = earlier(messages);
  if (before.some(hasThoughts)) keys.add(EARLIER);
  for (const [i, message] of messages.entries()) {
    if (typeof message.content === "string" && message.content.trim() !== "") keys.add(contentOf(message.role));
    for (const [key, value] of Object.entries(message)) {
      const isEarlier = i < before.length && THOUGHTS.includes(key);
      if (!OTHERS.has(key) && !isEarlier && !isEmpty(value)) keys.add(key);
    }
  }
  return keys;
}

const earlier = (messages: Message[]): Message[] =>
  messages.slice(
    0,
    Math.max(
      0,
      messages.findLastIndex(({ role }) => role === "user"),
    ),
  );

const hasThoughts = ({ role, content, ...more }: Message): boolean =>
  role === "assistant" &&
  (THOUGHTS.some((key) => !isEmpty(more[key])) || (typeof content === "string" && content.includes(THOUGHT_END)));

const contentOf = (role: string): string => `content of role ${role}`;
const isEmpty = (value: unknown): boolean =>
  value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0);

/** A template that refuses a row without the key uses the key, so it counts as shown. */
function isShown(tokenizer: Tokenizer, conversation: Conversation, key: string): boolean {
  const { messages, tools, place, ...options } = conversation;
  const whole = renderChat(tokenizer, messages, { tools, place, ...options, addGenerationPrompt: false });
  const other = tryRender(tokenizer, {
    ...options,
    tools: key === "tools" ? undefined : tools,
    messages: key === EARLIER ? otherThoughts(messages) : messages.map((message) => without(message, key)),
  });
  return other !== whole;
}

/** The message without the key, or with another value if templates behave differently without one. */
function without(message: Message, key: string): Message {
  if (key === contentOf(message.role)) {
    const { content } = message;
    return typeof content === "string" && content.trim() !== ""
      ? { ...message, content: `${content.trimEnd()}${PROBE}` }
      : message;
  }
  const { tool_calls: calls } = message;
  if (key === "tool_calls" && Array.isArray(calls)) return { ...message, tool_calls: calls.map(otherCall) };
  // All keys of thoughts mean the same, so they are removed together.
  const goes = THOUGHTS.includes(key) ? THOUGHTS : [key];
  return Object.fromEntries(Object.entries(message).filter(([name]) => !goes.includes(name))) as Message;
}

/** Other thoughts before the last question, both in their own keys and within the content. */
function otherThoughts(messages: Message[]): Message[] {
  const others = earlier(messages).map((message) => {
    if (!hasThoughts(message)) return message;
    const { content } = message;
    const changed = THOUGHTS.filter((key) => !isEmpty(message[key])).map((key) => [key, PROBE]);
    const text = typeof content === "string" ? content.replace(THOUGHT_END, `${PROBE}${THOUGHT_END}`) : content;
    return { ...message, ...Object.fromEntries(changed), content: text } as Message;
  });
  return [...others, ...messages.slice(others.length)];
}

/** A call of another function with other arguments, since templates may show only one of the two. */
function otherCall(call: unknown): unknown {
  if (typeof call !== "object" || call === null) return `${String(call)}${PROBE}`;
  const { function: inner } = call as { function?: unknown };
  if (typeof inner === "object" && inner !== null) return { ...call, function: otherCall(inner) };
  const others = { [PROBE]: PROBE };
  const isText = typeof (call as { arguments?: unknown }).arguments === "string";
  return { ...call, name: PROBE, arguments: isText ? JSON.stringify(others) : others };
}

function tryRender(tokenizer: Tokenizer, { messages, ...options }: Conversation): string | undefined {
  try {
    return renderChat(tokenizer, messages, { ...options, addGenerationPrompt: false });
  } catch (error) {
    if (error instanceof UserError && !(error instanceof LimitExceeded)) return undefined;
    throw error;
  }
}
