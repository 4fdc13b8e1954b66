// A list of messages, in OpenAI's form ({"role", "content"}) or ShareGPT's ({"from", "value"}), or such a list as JSON
// text. Content is a text, or a list of parts that are texts. Errors name the row and the message.
import { UserError } from "../../errors.js";
import { parseJsonRow } from "../json-values.js";
import { quoted } from "../limits.js";
import { describe, keyList } from "../rows.js";
import { fromJsonText } from "./fields.js";
import { takeInstruction } from "./instructions.js";
import { meant } from "./misspelling.js";
import type { Message } from "./sample.js";

const ROLES = ["system", "developer", "user", "assistant", "tool", "function", "ipython"];

/** ShareGPT's names of roles. There, calls of tools are turns of their own. */
const SPEAKERS: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  assistant: "assistant",
  bot: "assistant",
  model: "assistant",
  function_call: "assistant",
  system: "system",
  developer: "developer",
  observation: "tool",
  tool: "tool",
  function_response: "tool",
};

export interface ReadMessages {
  messages: Message[];
  /** As in `Sample`: only present if some message must not be trained. */
  trains?: boolean[];
}

/** `key` is the name of the column. */
export function readMessages(value: unknown, key: string, place: string): ReadMessages {
  const list = fromJsonText(value);
  if (!Array.isArray(list) || list.length === 0) {
    throw new UserError(
      `${place}: ${key} is ${describe(list)} (expected a list of at least one {"role", "content"} or {"from", "value"}).`,
    );
  }
  const read = list.map((item: unknown, i) => {
    const where = `${place}: ${key}[${i}]`;
    return takeInstruction(readMessage(item, where), where);
  });
  const trains = read.map((each) => each.trains);
  return { messages: read.map(({ message }) => message), ...(trains.includes(false) && { trains }) };
}

/** Puts the system's message in front. Errors: UserError if the messages begin with another one. */
export function withSystem(read: ReadMessages, system: string | undefined, place: string): ReadMessages {
  if (system === undefined) return read;
  const [first] = read.messages;
  if (first.role === "system") {
    if (first.content === system) return read;
    throw new UserError(
      `${place}: the column system and the first message are two system prompts that differ. Remove one of the two.`,
    );
  }
  const { messages, trains } = read;
  return { messages: [{ role: "system", content: system }, ...messages], ...(trains && { trains: [true, ...trains] }) };
}

function readMessage(item: unknown, where: string): Message {
  if (typeof item !== "object" || item === null || Array.isArray(item)) {
    throw new UserError(`${where} is ${describe(item)} (expected {"role", "content"} or {"from", "value"}).`);
  }
  const isSpoken = "from" in item && !("role" in item);
  const message = isSpoken ? readTurn(item as Record<string, unknown>, where) : (item as Message);
  const { role, content, tool_calls: calls } = message;
  if (typeof role !== "string") {
    throw new UserError(
      `${where}: role is ${describe(role)} (expected ${keyList(ROLES)}; the keys are ${keyList(Object.keys(item)) || "none"}).`,
    );
  }
  if (!ROLES.includes(role))
    throw new UserError(`${where}: role is "${quoted(role)}" (expected ${keyList(ROLES)}).${meant(role, ROLES)}`);
  if (Array.isArray(content)) return { ...message, content: joinParts(content, where) };
  const onlyCalls = (content === undefined || content === null) && Array.isArray(calls) && calls.length > 0;
  if (typeof content !== "string" && !onlyCalls) {
    throw new UserError(`${where}: content is ${describe(content)} (expected a text). Only text can be trained on.`);
  }
  return message;
}

/** Joins parts without anything between them, as templates that take parts do. */
function joinParts(parts: unknown[], where: string): string {
  return parts
    .map((part, i) => {
      if (typeof part === "string") return part;
      const { type, text } = (part ?? {}) as Record<string, unknown>;
      if ((type === "text" || type === undefined) && typeof text === "string") return text;
      throw new UserError(
        `${where}: content[${i}] is ${typeof type === "string" && type !== "text" ? `of type "${quoted(type)}"` : describe(part)} (expected ` +
          '{"type": "text", "text": ...}). Only text can be trained on.',
      );
    })
    .join("");
}

function readTurn({ from, value, ...others }: Record<string, unknown>, where: string): Message {
  const role = typeof from === "string" && Object.hasOwn(SPEAKERS, from) ? SPEAKERS[from] : undefined;
  if (role === undefined) {
    const known = Object.keys(SPEAKERS);
    throw new UserError(
      `${where}: from is ${describe(from)} (expected ${keyList(known)}).${typeof from === "string" ? meant(from, known) : ""}`,
    );
  }
  if (from === "function_call") return { ...others, role, content: null, tool_calls: readCalls(value, where) };
  if (value === undefined || value === null)
    throw new UserError(`${where}: value is ${describe(value)} (expected a text).`);
  return { ...others, role, content: value as string };
}

/** {"name", "arguments"}, or a list of such objects, usually as JSON text. */
function readCalls(value: unknown, where: string): unknown[] {
  let calls = value;
  if (typeof value === "string") {
    try {
      calls = parseJsonRow(value);
    } catch (error) {
      throw new UserError(`${where}: value of a function_call is not valid JSON: ${quoted((error as Error).message)}.`);
    }
  }
  const list = Array.isArray(calls) ? calls : [calls];
  if (list.length > 0 && list.every((call) => typeof (call as { name?: unknown } | null)?.name === "string"))
    return list.map((call: unknown) => ({ type: "function", function: call }));
  throw new UserError(
    `${where}: value of a function_call is ${describe(calls)} (expected {"name", "arguments"}, or a list of them).`,
  );
}
