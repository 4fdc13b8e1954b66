// What a run reports, as plain records: a step, an evaluation, a sample of text, a message; and the sink that takes
// them. The fields of a record are the keys of a line of metrics.jsonl, so renaming one breaks every reader of old
// runs.

/** How tokens are spread over the experts of one layer in one step. */
export interface ExpertLoad {
  layer: number;
  /** Tokens of the busiest expert over the mean of all experts; 1 is even. */
  maxOverMean: number;
  /** Entropy of the experts' shares, in nats; ln(number of experts) is even. */
  entropy: number;
  /** Number of experts without a token. */
  dead: number;
}

/** How inverses by iteration went, over all blocks and micro-batches of a step. */
export interface Inverse {
  /** Mean number of evaluations of a branch per block. */
  iterations: number;
  /** Largest change in the last evaluation. */
  residual: number;
  /** Blocks whose last residual was not below the first. */
  diverged: number[];
}

/** The peak of a step as a sum of terms, in bytes of tensors on the device. */
export interface MemoryTerms {
  weightBytes: number;
  stateBytes: number;
  /** Most bytes of gradients that were alive at once. */
  gradientBytes: number;
  streamBytes: number;
  /** Kept from the forward pass: stored bits and routing, block inputs, or graphs. */
  keptBytes: number;
  /** Hidden states of the teacher, until the loss. */
  teacherBytes: number;
  /** The rest: a block's activations, the loss tile, the optimizer's tile. */
  workBytes: number;
  /** Most bytes of tensors alive at once during the step. */
  peakBytes: number;
}

/** One step; `MemoryTerms` are those of this step. */
export interface StepRecord extends MemoryTerms {
  /** Number of optimizer steps done, including this one. */
  step: number;
  /** What the step trains: only adapters, the original network's logits, or everything by labels. */
  phase: "adapters" | "distillation" | "full";
  /** Passes over the training rows so far, as a fraction. */
  epoch: number;
  /**
   * Mean over a step's trained tokens, in nats: cross-entropy, or in distillation the divergence over all tokens. If
   * not every step has a line, loss and accuracy are means over the steps since the last line; all else is of this
   * step.
   */
  loss: number;
  /** Share of the trained tokens whose next token has the largest logit; null in distillation. */
  meanTokenAccuracy: number | null;
  learningRate: number;
  /** Norm of the gradients of all parameters, before clipping. */
  gradNorm: number;
  /** Number of tokens of this step that have a loss. */
  trainedTokens: number;
  /** All tokens of the step, trained or not. */
  tokensPerSecond: number;
  stepMs: number;
  /** Bytes of tensors alive after the step. */
  liveBytes: number;
  /** Resident memory of the process. */
  rssBytes: number;
  /** Bytes of the stored bits, packed. */
  bitBytes: number;
  /** Largest difference between a stream and its rebuilt form; null where it was not measured. */
  reconstructionError: number | null;
  /** How iterations went that rebuild blocks; null if inverses are explicit. */
  inverse: Inverse | null;
  expertLoad: ExpertLoad[];
  /** Load-balancing loss without its coefficient, not part of `loss`; null if it is off. */
  auxLoss: number | null;
  /** Router z-loss without its coefficient, not part of `loss`; null if it is off. */
  zLoss: number | null;
}

export interface EvalRecord {
  step: number;
  epoch: number;
  evalLoss: number;
  evalPerplexity: number;
  evalMeanTokenAccuracy: number;
  /** Which network: with the coupling it is trained with, or the ordinary one that is exported. */
  network: "trained" | "ordinary";
}

export interface MessageRecord {
  step: number;
  message: string;
  level: "info" | "warning";
}

/** How the network continues a prompt after a step, always with the likeliest token. */
export interface SampleRecord {
  step: number;
  prompt: string;
  /** The text after the prompt. */
  text: string;
  network: "trained" | "ordinary";
}

export type RunEvent =
  | ({ kind: "step" } & StepRecord)
  | ({ kind: "eval" } & EvalRecord)
  | ({ kind: "sample" } & SampleRecord)
  | ({ kind: "message" } & MessageRecord);

/** How a run ended: after all its steps, stopped by a person, or by an error. */
export type RunEnd = "finished" | "stopped" | "failed";

/** Takes the events of a run, in order. */
export interface Sink {
  write(event: RunEvent): void;
  /** To be called once; `end` is "finished" by default. */
  close(end?: RunEnd): void;
}
