// Exact match by generation, as for GSM8K: takes the likeliest tokens until the text ends, and compares the number in
// it with the row's.
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { checkPrompt, generateTokens } from "../generate/generate.js";
import { encodePrompt } from "../generate/prompt.js";
import type { Architecture } from "../model/architecture.js";
import type { Network } from "../network/network.js";
import { extractAnswer, sameAnswer } from "./answers.js";
import { fill, nextQuestion, type PromptForm } from "./prompt.js";
import type { AnswerRow } from "./task-rows.js";

export interface Question {
  promptIds: number[];
  /** The number to find. */
  answer: string;
}

/**
 * Errors: UserError for a row whose answer has no number, or whose prompt and new tokens exceed the model's positions.
 */
export function makeQuestions(
  rows: AnswerRow[],
  form: PromptForm,
  architecture: Architecture,
  maxNewTokens: number,
): Question[] {
  return rows.map(({ question, answer, place }) => {
    const number = extractAnswer(answer);
    if (number === undefined) {
      throw new UserError(
        `${place}: answer has no number (expected one behind ####, or as its last). Task exact-match compares numbers.`,
      );
    }
    const { ids } = encodePrompt(form.tokenizer, fill(form, question), { ...form, place });
    try {
      checkPrompt(architecture, ids, maxNewTokens);
    } catch (failure) {
      throw failure instanceof UserError ? new UserError(`${place}: ${failure.message}`) : failure;
    }
    return { promptIds: ids, answer: number };
  });
}

export interface Attempt {
  text: string;
  /** The number found in the text; null if there is none. */
  found: string | null;
  answer: string;
  correct: boolean;
}

export interface AttemptOptions {
  maxNewTokens: number;
  stopIds: Set<number>;
  seen?: (share: number) => void;
}

/** The model's answer to each question. */
export function attempt(network: Network, questions: Question[], form: PromptForm, options: AttemptOptions): Attempt[] {
  const { maxNewTokens, stopIds, seen } = options;
  const end = nextQuestion(form);
  return questions.map(({ promptIds, answer }, i) => {
    const text = textOf(generateTokens(network, promptIds, { maxNewTokens, stopIds }), form.tokenizer, end);
    const found = extractAnswer(text);
    seen?.((i + 1) / questions.length);
    return { text, found: found ?? null, answer, correct: sameAnswer(found, answer) };
  });
}

function textOf(tokens: Iterable<number>, tokenizer: Tokenizer, end: string): string {
  const ids: number[] = [];
  for (const token of tokens) {
    ids.push(token);
    // The last tokens are enough to see whether the next question has begun.
    if (end !== "" && tokenizer.decode(ids.slice(-end.length - 1)).includes(end)) break;
  }
  const text = tokenizer.decode(ids);
  const at = end === "" ? -1 : text.indexOf(end);
  return at < 0 ? text : text.slice(0, at);
}
