// Conversations in ShareGPT's form: turns of {"from", "value"}, a system prompt and tools beside them.
import { readKwargs, readOptionalText, readTools } from "./fields.js";
import { readMessages, withSystem } from "./read-messages.js";
import type { RowKind } from "./row-kind.js";

export const sharegpt: RowKind = {
  makes: ["messages"],
  needs: [["conversations"], ["conversation"]],
  reads: ["system", "tools", "chat_template_kwargs"],
  readSample({ value, place }) {
    const key = value.conversations === undefined ? "conversation" : "conversations";
    const tools = readTools(value.tools, place);
    const kwargs = readKwargs(value.chat_template_kwargs, place);
    const read = readMessages(value[key], key, place);
    return {
      kind: "messages",
      ...withSystem(read, readOptionalText(value.system, "system", place), place),
      tools,
      ...kwargs,
    };
  },
};
