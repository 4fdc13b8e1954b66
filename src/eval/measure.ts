// Prepares a task from its rows before a model's weights are read; then measures one network after another. Owns no
// tensors.
import type { ModelSource } from "../checkpoint/source.js";
import type { Row } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { findStopIds } from "../generate/stop-ids.js";
import { readArchitecture } from "../families/registry.js";
import { evaluateLoss } from "../network/evaluate.js";
import type { Network } from "../network/network.js";
import { checkTokens } from "../train/prepare-data.js";
import { choiceLogLikelihoods, makeChoices, scoreChoices, standardError } from "./choice.js";
import { attempt, makeQuestions } from "./exact-match.js";
import { type DataSettings, batchesOf } from "./held-out.js";
import { CHAT_TEMPLATE, PLAIN_TEMPLATE, type PromptForm } from "./prompt.js";
import { readAnswerRow, readChoiceRow, type Task } from "./task-rows.js";

export interface TaskSettings {
  source: ModelSource;
  tokenizer: Tokenizer;
  data: DataSettings;
  /** Empty: the usual template. */
  template: string;
  chat: boolean;
  max_new_tokens: number;
}

export interface Measured {
  /** For machines. */
  record: Record<string, unknown>;
  /** The same for people. */
  words: string;
}

/** Measures one network; calls `seen` with the share that is done. */
export type Measure = (network: Network, seen: (share: number) => void) => Measured;

/** Errors: UserError for rows that do not fit the task. */
export function prepareTask(task: Task, rows: Row[], settings: TaskSettings): Measure {
  if (task === "loss") return prepareLoss(rows, settings);
  return task === "choice" ? prepareChoices(rows, settings) : prepareQuestions(rows, settings);
}

function prepareLoss(rows: Row[], { tokenizer, data, source }: TaskSettings): Measure {
  const { documents, batches, report } = batchesOf(rows, tokenizer, data);
  checkTokens(documents, configOf(source).vocabSize);
  const { tokens, trainedTokens, truncated, dropped } = report;
  return (network, seen) => {
    const loss = evaluateLoss(network, batches, (done) => seen(done / batches.length));
    const perplexity = Math.exp(loss);
    const cut = truncated + dropped > 0 ? `, ${truncated} cut, ${dropped} left out` : "";
    return {
      record: { rows: rows.length, tokens, trainedTokens, truncated, dropped, loss, perplexity },
      words: `loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(2)} over ${trainedTokens} tokens of ${rows.length} rows${cut}`,
    };
  };
}

function prepareChoices(rows: Row[], settings: TaskSettings): Measure {
  const { data, source } = settings;
  const { items, cut } = makeChoices(rows.map(readChoiceRow), formOf(settings), configOf(source).maxPositions);
  const batching = { rows: data.per_device_eval_batch_size, max_length: data.max_length };
  return (network, seen) => {
    const score = scoreChoices(items, choiceLogLikelihoods(network, items, batching, seen));
    const note = cut > 0 ? `, ${cut} contexts cut to the model's positions` : "";
    return {
      record: { ...score, cut },
      words: `acc ${share(score.acc, score.accError)}, acc_norm ${share(score.accNorm, score.accNormError)} over ${rows.length} rows${note}`,
    };
  };
}

function prepareQuestions(rows: Row[], settings: TaskSettings): Measure {
  const { source, tokenizer, chat, max_new_tokens: maxNewTokens } = settings;
  const form = formOf(settings);
  const questions = makeQuestions(rows.map(readAnswerRow), form, configOf(source), maxNewTokens);
  const stopIds = findStopIds(source, tokenizer, { chat });
  return (network, seen) => {
    const attempts = attempt(network, questions, form, { maxNewTokens, stopIds, seen });
    const correct = attempts.filter((each) => each.correct).length;
    const exactMatch = correct / rows.length;
    const error = standardError(exactMatch, rows.length);
    return {
      record: { rows: rows.length, correct, exactMatch, exactMatchError: error, attempts },
      words: `exact match ${share(exactMatch, error)}: ${correct} of ${rows.length} rows`,
    };
  };
}

function formOf({ tokenizer, template, chat }: TaskSettings): PromptForm {
  const usual = chat ? CHAT_TEMPLATE : PLAIN_TEMPLATE;
  return { tokenizer, template: template === "" ? usual : template.replaceAll("\\n", "\n"), chat };
}

const configOf = ({ config, configPath }: ModelSource) => readArchitecture(config, configPath);

const share = (value: number, error: number | null): string =>
  `${(100 * value).toFixed(2)} %${error === null ? "" : ` +- ${(100 * error).toFixed(2)}`}`;
