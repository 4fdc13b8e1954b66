// From a question to the tokens that a model goes on from: in a template of plain text, or as a user's message in the
// tokenizer's chat template.
import { renderChat } from "../data/template.js";
import type { Tokenizer } from "../data/tokenizer.js";

export interface PromptForm {
  tokenizer: Tokenizer;
  /** With {question} where the question goes. */
  template: string;
  chat: boolean;
}

export const PLAIN_TEMPLATE = "Question: {question}\nAnswer:";
export const CHAT_TEMPLATE = "{question}";

export const fill = ({ template }: PromptForm, question: string): string => template.replace("{question}", () => question);

/** Tokens of a prompt, and its text as a continuation is encoded behind it. */
export function encodePrompt({ tokenizer, chat }: PromptForm, text: string, place: string): { ids: number[]; text: string } {
  const { addBos, bosId } = tokenizer;
  const said = chat ? renderChat(tokenizer, [{ role: "user", content: text }], { addGenerationPrompt: true, place }) : text;
  const ids = tokenizer.encode(said);
  return { ids: !chat && addBos && bosId !== undefined && ids[0] !== bosId ? [bosId, ...ids] : ids, text: said };
}

/** The words that the next question would begin with: where a base model goes on with one, its answer has ended. */
export const nextQuestion = ({ template, chat }: PromptForm): string =>
  chat ? "" : template.slice(0, template.indexOf("{question}")).trim();
