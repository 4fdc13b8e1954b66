// The token that ends a turn of the assistant in a chat template. A model that is trained on conversations learns to
// stop with it; its files may name another end token.
import { renderChat } from "./template/template.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

const PROBE = "probe";

/**
 * The special token that follows an assistant's words; undefined if none does. Errors: UserError without a template, or
 * if it refuses.
 */
export function turnEnd(tokenizer: Tokenizer): number | undefined {
  const turns = [
    { role: "user", content: "?" },
    { role: "assistant", content: PROBE },
  ];
  const text = renderChat(tokenizer, turns, { addGenerationPrompt: false });
  const tail = text.slice(text.lastIndexOf(PROBE) + PROBE.length).trimStart();
  const first = tokenizer.encode(tail, PROBE).at(0);
  // Decoding leaves out special tokens.
  return first !== undefined && tokenizer.decode([first]) === "" ? first : undefined;
}
