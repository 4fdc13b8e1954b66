// Documents into micro-batches. A batch is its documents end to end, without padding: positions begin again with each
// document, no label looks past a document's end, and `segments` keep attention inside it. The order of an epoch
// follows from (seed, epoch) alone, so a run can go on from a BatchState without replaying what it has seen. Documents
// are borrowed and never changed; the caller owns the arrays of a batch.
import { assert, UserError } from "../errors.js";
import type { Document, Documents } from "./documents.js";
import { type Bins, packLengths, singly } from "./packing/pack.js";
import { permutation } from "./shuffle.js";

/** The label of a position without a loss. */
export const NO_LABEL = -100;

export interface Batch {
  tokens: Int32Array;
  /** At position i: token i + 1 of the same document, or -100 where that is not trained or there is none. */
  labels: Int32Array;
  /** Position within the document, from 0. */
  positions: Int32Array;
  /** Lengths of the documents, in order; they sum to tokens.length. */
  segments: number[];
  /** How many labels are not -100. */
  trainedTokens: number;
  /** The row that each document comes from; missing where there are no rows. */
  places?: string[];
}

/**
 * A batch as a step takes it. An engine without elements looks at no value of the arrays, so a plan may have sizes
 * alone.
 */
export interface SizedBatch extends Pick<Batch, "segments" | "trainedTokens"> {
  tokens: ArrayLike<number>;
  labels: ArrayLike<number>;
  positions: ArrayLike<number>;
}

/** The place of the next batch: batch `position` of `epoch`, both from 0. */
export interface BatchState {
  epoch: number;
  position: number;
}

export interface BatchSettings {
  /** Rows of a batch: with packing, bins of at most max_length tokens; else documents. */
  rows: number;
  max_length: number;
  packing: boolean;
  seed: number;
  /** Whether each epoch has its own order; if not, all have the order of the rows. True by default. */
  shuffle?: boolean;
}

/** An endless supply of training batches, epoch after epoch, each document once an epoch. */
export class Batches {
  readonly batchesPerEpoch: number;
  private readonly bins: Bins;
  private at: BatchState = { epoch: 0, position: 0 };
  private readonly leftOut = new Set<string>();
  private order: { epoch: number; bins: Int32Array } | undefined;

  constructor(
    private readonly documents: Documents,
    private readonly settings: BatchSettings,
  ) {
    assert(
      documents.length > 0 && settings.rows > 0,
      `${documents.length} documents in batches of ${settings.rows} rows`,
    );
    this.bins = settings.packing ? packLengths(lengthsOf(documents), settings.max_length) : singly(documents.length);
    this.batchesPerEpoch = Math.ceil(this.bins.length / settings.rows);
  }

  /** From now on, `next` skips this batch. */
  leaveOut({ epoch, position }: BatchState): void {
    this.leftOut.add(`${epoch}/${position}`);
  }

  /** The next batch that is not left out. The last batch of an epoch may have fewer rows. */
  next(): Batch {
    return this.nextPlaced().batch;
  }

  /** The next batch and its place. */
  nextPlaced(): { at: BatchState; batch: Batch } {
    const { rows } = this.settings;
    this.passLeftOut();
    const { at } = this;
    const { epoch, position } = at;
    if (this.order?.epoch !== epoch) this.order = { epoch, bins: this.orderOf(epoch) };
    const chosen = this.order.bins.subarray(position * rows, (position + 1) * rows);
    this.advance();
    return {
      at,
      batch: concatenate(
        Array.from(chosen).flatMap((bin) => Array.from(this.bins.of(bin), (index) => this.documents.document(index))),
      ),
    };
  }

  /** The batches of an optimizer step: `most` of them, or as many as the epoch still has. */
  nextStep(most: number): { at: BatchState; batch: Batch }[] {
    const placed: { at: BatchState; batch: Batch }[] = [];
    while (placed.length < most) {
      this.passLeftOut();
      if (placed.length > 0 && placed[0].at.epoch !== this.at.epoch) break;
      placed.push(this.nextPlaced());
    }
    return placed;
  }

  private orderOf(epoch: number): Int32Array {
    if (this.settings.shuffle !== false) return permutation(this.bins.length, this.settings.seed, epoch);
    return Int32Array.from({ length: this.bins.length }, (_, bin) => bin);
  }

  private passLeftOut(): void {
    while (this.leftOut.has(`${this.at.epoch}/${this.at.position}`)) this.advance();
  }

  private advance(): void {
    const { epoch, position } = this.at;
    this.at =
      position + 1 < this.batchesPerEpoch ? { epoch, position: position + 1 } : { epoch: epoch + 1, position: 0 };
  }

  /** The place of the next batch, which may be one that `next` skips. */
  state(): BatchState {
    return { ...this.at };
  }

  /** Errors: UserError when the state cannot be one of these documents and settings. */
  restore({ epoch, position }: BatchState): void {
    const whole = Number.isInteger(epoch) && Number.isInteger(position) && epoch >= 0 && position >= 0;
    if (!whole || position >= this.batchesPerEpoch) {
      throw new UserError(
        `resume: batch ${position} of epoch ${epoch} does not exist (expected a batch below ` +
          `${this.batchesPerEpoch}, as an epoch has that many). ` +
          "The data or the batch settings are not those of the run; resume with the same.",
      );
    }
    this.at = { epoch, position };
  }
}

/** Batches that are made when they are asked for; an array is a BatchList, too. */
export interface BatchList {
  readonly length: number;
  /** Like an array's `slice`. */
  slice(start: number, end: number): Batch[];
}

/** All documents once, in order, as many in a batch as fit in rows * max_length tokens. For evaluation. */
export function sequentialBatches(
  documents: Documents,
  { rows, max_length }: { rows: number; max_length: number },
): BatchList {
  /** The first document of each batch. */
  const starts: number[] = [];
  let room = 0;
  for (let i = 0; i < documents.length; i++) {
    const length = documents.lengthOf(i);
    if (starts.length === 0 || length > room) {
      starts.push(i);
      room = rows * max_length;
    }
    room -= length;
  }
  const batchAt = (start: number, i: number): Batch => {
    const count = (starts[i + 1] ?? documents.length) - start;
    return concatenate(Array.from({ length: count }, (_, at) => documents.document(start + at)));
  };
  return {
    length: starts.length,
    slice: (start, end) => starts.slice(start, end).map((first, i) => batchAt(first, start + i)),
  };
}

function lengthsOf(documents: Documents): Int32Array {
  return Int32Array.from({ length: documents.length }, (_, i) => documents.lengthOf(i));
}

function concatenate(documents: readonly Document[]): Batch {
  const segments = documents.map(({ tokens }) => tokens.length);
  const total = segments.reduce((sum, length) => sum + length, 0);
  const tokens = new Int32Array(total);
  const labels = new Int32Array(total).fill(NO_LABEL);
  const positions = new Int32Array(total);
  let trainedTokens = 0;
  let start = 0;
  for (const document of documents) {
    tokens.set(document.tokens, start);
    for (let i = 0; i < document.tokens.length; i++) {
      positions[start + i] = i;
      if (i === 0 || document.trained[i] === 0) continue;
      labels[start + i - 1] = document.tokens[i];
      trainedTokens++;
    }
    start += document.tokens.length;
  }
  return { tokens, labels, positions, segments, trainedTokens, places: documents.map(({ place }) => place) };
}
