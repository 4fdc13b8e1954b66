// Conversations as OpenAI and transformers have them: messages with roles, tools beside them.
import { readOptionalText, readTools } from "./fields.js";
import { readMessages, withSystem } from "./read-messages.js";
import type { RowKind } from "./row-kind.js";

export const messages: RowKind = {
  makes: ["messages"],
  needs: [["messages"]],
  reads: ["tools", "system"],
  readSample({ value, place }) {
    const tools = readTools(value.tools, place);
    const read = readMessages(value.messages, "messages", place);
    return { kind: "messages", ...withSystem(read, readOptionalText(value.system, "system", place), place), tools };
  },
};
