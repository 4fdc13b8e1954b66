// Conversations as in OpenAI's and transformers' format: messages with roles, tools beside them.
import { readKwargs, readOptionalText, readTools } from "./fields.js";
import { readMessages, withSystem } from "./read-messages.js";
import type { RowKind } from "./row-kind.js";

export const messages: RowKind = {
  makes: ["messages"],
  needs: [["messages"]],
  reads: ["tools", "system", "chat_template_kwargs"],
  readSample({ value, place }) {
    const tools = readTools(value.tools, place);
    const kwargs = readKwargs(value.chat_template_kwargs, place);
    const read = readMessages(value.messages, "messages", place);
    return {
      kind: "messages",
      ...withSystem(read, readOptionalText(value.system, "system", place), place),
      tools,
      ...kwargs,
    };
  },
};
