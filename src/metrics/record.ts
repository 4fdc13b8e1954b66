// What a run reports, as plain records: a step, an evaluation, a sample of text, a message; and the sink that takes them. The fields of a
// record are the keys of a line of metrics.jsonl, so renaming one breaks every reader of old runs.

/** How tokens were spread over the experts of one layer in one step. */
export interface ExpertLoad {
  layer: number;
  /** Tokens of the busiest expert over the mean of all experts; 1 is even. */
  maxOverMean: number;
  /** Of the shares, in nats; ln(number of experts) is even. */
  entropy: number;
  /** Experts that got no token. */
  dead: number;
}

/** Over all blocks and micro-batches of a step. */
export interface Inverse {
  /** Mean evaluations of a branch per block. */
  iterations: number;
  /** Largest change by the last evaluation. */
  residual: number;
  /** Blocks that ended further off than they began. */
  diverged: number[];
}

/** The peak of a step as a sum of terms, in bytes of tensors on the device. */
export interface MemoryTerms {
  weightBytes: number;
  stateBytes: number;
  /** Of the largest gradient that was alive at once. */
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

/** `MemoryTerms` are those of this step. */
export interface StepRecord extends MemoryTerms {
  /** Optimizer steps done, this one included. */
  step: number;
  /** What the step trains: adapters alone, the original network's logits, or everything by labels. */
  phase: "adapters" | "distillation" | "full";
  /** Passes over the training rows done, as a fraction. */
  epoch: number;
  /**
   * Mean over a step's trained tokens, in nats: cross-entropy, or in distillation the divergence of all tokens. Where not every step
   * has a line, this and the accuracy are means of the steps since the last line; all else is of this step.
   */
  loss: number;
  /** Share of the trained tokens for which the network gives the most to the one that follows; null in distillation. */
  meanTokenAccuracy: number | null;
  learningRate: number;
  /** Norm over all parameters, before clipping. */
  gradNorm: number;
  /** Tokens of this step whose loss was taken. */
  trainedTokens: number;
  /** All tokens of the step, trained or not. */
  tokensPerSecond: number;
  stepMs: number;
  /** Bytes of tensors alive after the step. */
  liveBytes: number;
  /** Resident memory of the process. */
  rssBytes: number;
  /** The bits that the coupling drops and keeps, packed. */
  bitBytes: number;
  /** Largest difference between a stream and its rebuilt form; null where it was not measured. */
  reconstructionError: number | null;
  /** How the iterations went that rebuild blocks; null where inverses are explicit. */
  inverse: Inverse | null;
  expertLoad: ExpertLoad[];
  /** Load-balancing loss without its coefficient, no part of `loss`; null where it is off. */
  auxLoss: number | null;
  /** Router z-loss without its coefficient, no part of `loss`; null where it is off. */
  zLoss: number | null;
}

export interface EvalRecord {
  step: number;
  epoch: number;
  evalLoss: number;
  evalPerplexity: number;
  evalMeanTokenAccuracy: number;
  /** Which network: with the coupling it was trained with, or as the ordinary one that is exported. */
  network: "trained" | "ordinary";
}

export interface MessageRecord {
  step: number;
  message: string;
  level: "info" | "warning";
}

/** What the network makes of a prompt behind a step, always with the likeliest token. */
export interface SampleRecord {
  step: number;
  prompt: string;
  /** What follows the prompt. */
  text: string;
  network: "trained" | "ordinary";
}

export type RunEvent =
  | ({ kind: "step" } & StepRecord)
  | ({ kind: "eval" } & EvalRecord)
  | ({ kind: "sample" } & SampleRecord)
  | ({ kind: "message" } & MessageRecord);

/** How a run came to its end: all its steps made, stopped by a person, or by an error. */
export type RunEnd = "finished" | "stopped" | "failed";

/** Takes the events of a run in their order. */
export interface Sink {
  write(event: RunEvent): void;
  /** Once; `end` is "finished" unless it is said. */
  close(end?: RunEnd): void;
}
