// How a question is put to a model: in a template of plain text, or as a user's message in the tokenizer's chat template.
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

export interface PromptForm {
  tokenizer: Tokenizer;
  /** With {question} where the question goes. */
  template: string;
  chat: boolean;
  /** Variables for the chat template, as {enable_thinking: false}. */
  kwargs?: Record<string, unknown>;
}

export const PLAIN_TEMPLATE = "Question: {question}\nAnswer:";
export const CHAT_TEMPLATE = "{question}";

export const fill = ({ template }: PromptForm, question: string): string =>
  template.replace("{question}", () => question);

/** The words that the next question would begin with: where a base model goes on with one, its answer has ended. */
export const nextQuestion = ({ template, chat }: PromptForm): string =>
  chat ? "" : template.slice(0, template.indexOf("{question}")).trim();
