// Multiple choice by likelihood, as in lm-evaluation-harness. log p(choice | context) is the sum over the choice's
// tokens; acc takes the likeliest choice, acc_norm the likeliest per byte of the choice. The harness counts characters,
// which is the same in ASCII. Of equal choices the first counts.
import { sequentialBatches } from "../data/batches.js";
import { type Document, inMemory } from "../data/documents.js";
import { encodePrompt } from "../generate/prompt.js";
import { documentLosses } from "../network/evaluate.js";
import type { Network } from "../network/network.js";
import { checkTokens } from "../train/prepare-data.js";
import { fill, type PromptForm } from "./prompt.js";
import { type ChoiceRow, tidied } from "./task-rows.js";

/** A row's choices as documents in which only the choice is trained, and their lengths in bytes. */
export interface ChoiceItem {
  documents: Document[];
  bytes: number[];
  answer: number;
}

/**
 * Contexts longer than the model's positions lose their beginning; `cut` is the number of choices with such a context.
 */
export function makeChoices(
  rows: ChoiceRow[],
  form: PromptForm,
  maxPositions: number,
): { items: ChoiceItem[]; cut: number } {
  let cut = 0;
  const items = rows.map(({ context, isQuestion, choices, answer, place }) => {
    const prompt = encodePrompt(form.tokenizer, isQuestion ? fill(form, context) : context, { ...form, place });
    const texts = isQuestion ? choices : choices.map(tidied);
    const documents = texts.map((choice): Document => {
      const ids = form.tokenizer.encode(form.chat ? choice : ` ${choice}`, prompt.text);
      const all = [...prompt.ids, ...ids];
      if (all.length > maxPositions) cut++;
      const tokens = Int32Array.from(all.slice(-maxPositions));
      const trained = new Uint8Array(tokens.length).fill(1, Math.max(1, tokens.length - ids.length));
      return { tokens, trained, place };
    });
    return { documents, bytes: texts.map((choice) => Buffer.byteLength(choice)), answer };
  });
  return { items, cut };
}

export interface ChoiceScore {
  rows: number;
  acc: number;
  accNorm: number;
  /** Standard error of acc: sqrt(acc (1 - acc) / (rows - 1)); null for one row. */
  accError: number | null;
  accNormError: number | null;
}

/** For each item, log p(choice | context) of its choices. */
export function choiceLogLikelihoods(
  network: Network,
  items: ChoiceItem[],
  batching: { rows: number; max_length: number },
  seen: (share: number) => void = () => {},
): number[][] {
  const documents = inMemory(items.flatMap((item) => item.documents));
  checkTokens(documents, network.model.architecture.vocabSize);
  const batches = sequentialBatches(documents, batching);
  const losses = documentLosses(network, batches, (done) => seen(done / batches.length));
  let start = 0;
  return items.map(({ documents: own }) => losses.slice(start, (start += own.length)).map((loss) => -loss));
}

export function scoreChoices(items: ChoiceItem[], logLikelihoods: number[][]): ChoiceScore {
  const rows = items.length;
  const share = (value: (logLikelihood: number, bytes: number) => number): number =>
    items.filter(
      ({ bytes, answer }, i) =>
        likeliest(logLikelihoods[i].map((each, choice) => value(each, bytes[choice]))) === answer,
    ).length / rows;
  const [acc, accNorm] = [share((each) => each), share((each, bytes) => each / bytes)];
  return { rows, acc, accNorm, accError: standardError(acc, rows), accNormError: standardError(accNorm, rows) };
}

const likeliest = (values: number[]): number => values.indexOf(Math.max(...values));

/** Standard error of a share of `rows` independent rows. */
export const standardError = (share: number, rows: number): number | null =>
  rows > 1 ? Math.sqrt((share * (1 - share)) / (rows - 1)) : null;
