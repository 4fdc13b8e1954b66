// A prompt and its completion: two texts, or two lists of messages. An input beside two texts belongs to the prompt.
import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import { withInput } from "./alpaca.js";
import { fromJsonText, readKwargs, readOptionalText, readText, readTools } from "./fields.js";
import { readMessages, withSystem } from "./read-messages.js";
import type { RowKind } from "./row-kind.js";

export const promptCompletion: RowKind = {
  makes: ["completion", "chat_completion"],
  needs: [["prompt", "completion"]],
  reads: ["input", "system", "tools", "chat_template_kwargs"],
  // A text has no place for a system prompt or tools, and messages have none for an input.
  idle: ({ prompt }) => (Array.isArray(listOrText(prompt)) ? ["input"] : ["system", "tools", "chat_template_kwargs"]),
  readSample({ value, place }) {
    const prompt = listOrText(value.prompt);
    const completion = listOrText(value.completion);
    if (Array.isArray(prompt) !== Array.isArray(completion)) {
      throw new UserError(
        `${place}: prompt is ${describe(prompt)} and completion is ${describe(completion)} (expected two texts or ` +
          "two lists of messages).",
      );
    }
    if (!Array.isArray(prompt)) {
      return {
        kind: "completion",
        prompt: withInput(readText(prompt, "prompt", place), value.input, place),
        completion: readText(completion, "completion", place),
      };
    }
    const tools = readTools(value.tools, place);
    const system = readOptionalText(value.system, "system", place);
    const asked = withSystem(readMessages(prompt, "prompt", place), system, place);
    const answered = readMessages(completion, "completion", place);
    const trains = [asked, answered].flatMap(({ messages, trains }) => trains ?? messages.map(() => true));
    return {
      kind: "chat_completion",
      prompt: asked.messages,
      completion: answered.messages,
      tools,
      ...readKwargs(value.chat_template_kwargs, place),
      ...(trains.includes(false) && { trains }),
    };
  },
};

/** The list, if a text is the JSON of messages; any other value unchanged. */
function listOrText(value: unknown): unknown {
  const read = fromJsonText(value);
  const isMessages =
    Array.isArray(read) &&
    read.length > 0 &&
    read.every((item) => typeof item === "object" && item !== null && ("role" in item || "from" in item));
  return Array.isArray(value) || isMessages ? read : value;
}
