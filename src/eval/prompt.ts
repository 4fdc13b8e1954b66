// How a question is put to a model: in a plain text template, or as a user's message in the tokenizer's chat template.
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

export interface PromptForm {
  tokenizer: Tokenizer;
  /** Has {question} in the place of the question. */
  template: string;
  chat: boolean;
  /** Variables for the chat template, such as {enable_thinking: false}. */
  kwargs?: Record<string, unknown>;
}

export const PLAIN_TEMPLATE = "Question: {question}\nAnswer:";
export const CHAT_TEMPLATE = "{question}";

export const fill = ({ template }: PromptForm, question: string): string =>
  template.replace("{question}", () => question);

/** The words with which the next question would begin: when a base model writes them, its answer has ended. */
export const nextQuestion = ({ template, chat }: PromptForm): string =>
  chat ? "" : template.slice(0, template.indexOf("{question}")).trim();
