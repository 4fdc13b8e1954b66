// Instructions as in Alpaca, with a system prompt and earlier turns as in LLaMA-Factory. Read as a conversation.
import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import { fromJsonText, readOptionalText, readText, readTools } from "./fields.js";
import type { RowKind } from "./row-kind.js";
import type { Message } from "./sample.js";

export const alpaca: RowKind = {
  makes: ["messages"],
  needs: [["instruction", "output"]],
  reads: ["input", "system", "history", "tools"],
  readSample({ value, place }) {
    const system = readOptionalText(value.system, "system", place);
    const messages: Message[] = [
      ...(system === undefined ? [] : [{ role: "system", content: system }]),
      ...readHistory(value.history, place),
      { role: "user", content: withInput(readText(value.instruction, "instruction", place), value.input, place) },
      { role: "assistant", content: readText(value.output, "output", place) },
    ];
    return { kind: "messages", messages, tools: readTools(value.tools, place) };
  },
};

/** The instruction and, on a line of its own, its input. */
export function withInput(instruction: string, input: unknown, place: string): string {
  const about = readOptionalText(input, "input", place);
  return about === undefined ? instruction : `${instruction}\n${about}`;
}

function readHistory(value: unknown, place: string): Message[] {
  const list = value === undefined || value === null || value === "" ? [] : fromJsonText(value);
  const isPair = (item: unknown): item is [string, string] =>
    Array.isArray(item) && item.length === 2 && item.every((text) => typeof text === "string");
  if (Array.isArray(list) && list.every(isPair)) {
    return list.flatMap(([asked, answered]) => [
      { role: "user", content: asked },
      { role: "assistant", content: answered },
    ]);
  }
  const wrong = Array.isArray(list) ? list.findIndex((item) => !isPair(item)) : -1;
  const what = Array.isArray(list) ? `history[${wrong}] is ${describe(list[wrong])}` : `history is ${describe(value)}`;
  throw new UserError(`${place}: ${what} (expected pairs of texts, as [["question", "answer"]]).`);
}
