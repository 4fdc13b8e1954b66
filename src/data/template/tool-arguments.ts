// Arguments of tool calls that a row has as JSON text, as services return them. Many templates write arguments with
// `tojson`, which would quote the text again, or iterate over their names: they get the parsed object. Templates that
// write a text as it is get the text. One rendering of a call shows what a template does.
import type { Message } from "../conversations/sample.js";
import { parseJsonRow } from "../json-values.js";
import { type Chat, type Compiled, once, tryRun } from "./chat.js";

type Call = Record<string, unknown>;

const NAME = "revmoe";
const TEXT = `{"${NAME}": "probe"}`;

/** The chat, with arguments in the form that the template needs. */
export function withParsedArguments(compiled: Compiled, chat: Chat): Chat {
  if (!chat.messages.some((message) => callsOf(message).some(hasText))) return chat;
  const messages = chat.messages.map((message) => {
    const calls = callsOf(message);
    if (!calls.some(hasText)) return message;
    return { ...message, tool_calls: calls.map((call) => (takesText(compiled, chat, call) ? call : parsed(call))) };
  });
  return { ...chat, messages };
}

const callsOf = ({ tool_calls: calls }: Message): Call[] =>
  Array.isArray(calls) ? calls.filter((call) => typeof call === "object" && call !== null) : [];

const functionOf = (call: Call): Call => (isObject(call.function) ? call.function : call);
const isObject = (value: unknown): value is Call =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const hasText = (call: Call): boolean => typeof functionOf(call).arguments === "string";

const withArguments = (call: Call, value: unknown): Call =>
  isObject(call.function)
    ? { ...call, function: { ...call.function, arguments: value } }
    : { ...call, arguments: value };

/** The call with its arguments as an object, if they are the text of one. */
function parsed(call: Call): Call {
  const { arguments: text } = functionOf(call);
  if (typeof text !== "string") return call;
  try {
    const value = parseJsonRow(text);
    return isObject(value) ? withArguments(call, value) : call;
  } catch {
    return call;
  }
}

/** Whether the template writes arguments that are a text as they are, or does not write arguments at all. */
function takesText(compiled: Compiled, chat: Chat, call: Call): boolean {
  const shown = (value: unknown, tools: unknown[] | undefined): string | undefined => {
    const messages: Message[] = [
      { role: "user", content: "?" },
      { role: "assistant", content: "", tool_calls: [withArguments(call, value)] },
    ];
    return tryRun(compiled.plain, { ...chat, tools, messages }, messages.length, false);
  };
  // Tools differ from row to row, and a template may refuse them, or need some.
  const decide = (tools: unknown[] | undefined): boolean | undefined => {
    const [text, object] = [shown(TEXT, tools), shown(JSON.parse(TEXT), tools)];
    if (text?.includes(TEXT)) return true;
    return object === undefined ? undefined : !object.includes(NAME);
  };
  const find = (): boolean | undefined => decide(undefined) ?? decide(chat.tools);
  return once(compiled, `text for ${Object.keys(call).join()}`, chat, find) ?? true;
}
