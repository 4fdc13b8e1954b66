// From words to the tokens that a model continues: the words as they are, after the beginning-of-text token if the
// tokenizer puts one; or as a user's message in the tokenizer's chat template.
import { renderChat } from "../data/template/template.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

export interface PromptOptions {
  chat: boolean;
  /** Variables for the chat template, as {enable_thinking: false}. */
  kwargs?: Record<string, unknown>;
  /** Names the row in errors. */
  place?: string;
}

/** Tokens of a prompt, and the text after which a continuation is encoded. */
export function encodePrompt(
  tokenizer: Tokenizer,
  words: string,
  { chat, kwargs, place }: PromptOptions,
): { ids: number[]; text: string } {
  if (chat) {
    const text = renderChat(tokenizer, [{ role: "user", content: words }], {
      addGenerationPrompt: true,
      kwargs,
      place,
    });
    return { ids: tokenizer.encode(text), text };
  }
  const { addBos, bosId } = tokenizer;
  const ids = tokenizer.encode(words);
  return { ids: addBos && bosId !== undefined && ids[0] !== bosId ? [bosId, ...ids] : ids, text: words };
}
