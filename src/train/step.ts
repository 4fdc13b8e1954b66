// One training step, layer-major: every micro-batch passes block 1, then block 2, ...; on the way back each block is
// rebuilt, differentiated for every micro-batch into its one gradient buffer, updated and left. At any time there exist
// the streams of the micro-batches, one block's gradient and one block's working set.
import { UserError } from "../errors.js";
import type { Batch } from "../data/batches.js";
import { makeContext, type Context } from "../model/context.js";
import { makeGradients, type OpenWeights } from "../model/weights.js";
import type { Parameters } from "../model/model.js";
import { RecordedRouting } from "../model/routing.js";
import { clipFactor, gradientNorm } from "../optim/clip.js";
import { lossAndGradient } from "../reversible/loss.js";
import { bitBytes, freeBatch, hostBytes, type BatchState, type Method } from "../reversible/methods.js";
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { ledger } from "../torch/memory.js";
import { abs, amax, indexAdd_, sub } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free, keep, scope } from "../torch/scope.js";
import { byteSize, fromArray, item, type Tensor } from "../torch/tensor.js";
import { beginStreams, type Network, OpenBlock, openHead, outerNames } from "./network.js";
import type { OptimizerStates } from "./optimizer-states.js";

export interface StepOptions {
  method: Method;
  /** 1 for the first step. */
  step: number;
  learningRate: number;
  maxBlockGradNorm: number;
  seed: number;
}

export interface StepResult {
  /** Mean cross-entropy per trained token of the whole step. */
  loss: number;
  trainedTokens: number;
  gradNorm: number;
  streamBytes: number;
  /** What the method kept of the forward pass for the backward pass; stored bits and routing are part of it. */
  keptBytes: number;
  bitBytes: number;
  routingBytes: number;
  /** What waits in host memory; on the CPU it is part of `keptBytes`. */
  hostBytes: number;
  /** Bytes of the largest gradient that was alive at once. */
  gradientBytes: number;
  /** Largest difference between the rebuilt and the true first streams; null where nothing is rebuilt. */
  reconstructionError: number | null;
  /** Tokens per expert, by layer. */
  expertCounts: Map<number, number[]>;
}

type Work = BatchState<Context> & { batch: Batch; routing: RecordedRouting };

/** Loss and update of one step over its micro-batches. Frees all it made, also when it throws. */
export function trainStep(network: Network, states: OptimizerStates, batches: Batch[], options: StepOptions): StepResult {
  const trainedTokens = batches.reduce((total, batch) => total + batch.trainedTokens, 0);
  if (trainedTokens === 0)
    throw new UserError(`step ${options.step}: no token of this step is trained. Use longer max_length or larger batches.`);
  const run = new StepRun(network, states, options, 1 / trainedTokens);
  const works: Work[] = [];
  try {
    for (const batch of batches) works.push(run.start(batch));
    return { ...run.all(works), trainedTokens };
  } finally {
    for (const work of works) finish(work);
    run.close();
  }
}

function finish(work: Work): void {
  freeBatch(work);
  work.routing.free();
  free(work.context.cos_TC, work.context.sin_TC);
}

class StepRun {
  readonly #net: Network;
  readonly #states: OptimizerStates;
  readonly #options: StepOptions;
  readonly #lossScale: number;
  /** Open blocks by layer; with a method that holds blocks, all of them during the step. */
  readonly #open = new Map<number, OpenBlock>();
  /** The gradients alive now. */
  #gradients = new Set<Parameters>();
  #gradientBytes = 0;
  #squaredNorm = 0;

  constructor(network: Network, states: OptimizerStates, options: StepOptions, lossScale: number) {
    this.#net = network;
    this.#states = states;
    this.#options = options;
    this.#lossScale = lossScale;
  }

  start(batch: Batch): Work {
    const { model, computeDtype, device } = this.#net;
    // First, because it fails when the embedding holds what is no finite number; the tables behind it would stay alive.
    const streams = beginStreams(this.#net, batch.tokens).map(keep);
    const routing = new RecordedRouting(model.config.numExperts);
    const context = makeContext(model.config, batch.positions, batch.segments, { computeDtype, device, routing });
    return { batch, routing, context, streams, dStreams: [], kept: [] };
  }

  all(works: Work[]): Omit<StepResult, "trainedTokens"> {
    const { method } = this.#options;
    const depth = this.#net.model.config.numLayers;
    const liveBefore = ledger(this.#net.device).liveBytes;
    for (let layer = 0; layer < depth; layer++) {
      const block = this.#block(layer);
      for (const work of works) method.forward(layer, block, work, this.#net);
      if (!method.holdsBlocks) this.#leave(layer);
    }
    const total = (size: (work: Work) => number): number => works.reduce((sum, work) => sum + size(work), 0);
    // Streams are as large now as before the first block, so what has come to live since then was kept.
    const keptBytes = ledger(this.#net.device).liveBytes - liveBefore;
    const storedBytes = {
      keptBytes,
      bitBytes: total(bitBytes),
      routingBytes: total(({ routing }) => routing.bytes),
      hostBytes: total(hostBytes),
    };

    const tied = this.#gradient(headParameters(this.#net));
    const loss = this.#headAndLoss(works, tied);
    const streamBytes = total(({ streams, dStreams }) => [...streams, ...dStreams].reduce((sum, stream) => sum + byteSize(stream), 0));
    for (let layer = depth - 1; layer >= 0; layer--) {
      const block = this.#block(layer);
      const gradients = this.#gradient(this.#net.model.blocks[layer]);
      block.weights.collectInto(gradients);
      for (const work of works) method.backward(layer, block, work, this.#net);
      this.#leave(layer);
      this.#update(layer, this.#net.model.blocks[layer], gradients);
    }
    const reconstructionError = method.name === "reversible" ? Math.max(...works.map((work) => this.#reconstructionError(work))) : null;
    this.#embeddingGradient(works, tied);
    return {
      loss,
      streamBytes,
      ...storedBytes,
      reconstructionError,
      gradNorm: Math.sqrt(this.#squaredNorm),
      gradientBytes: this.#gradientBytes,
      expertCounts: addCounts(works.map(({ routing }) => routing.counts())),
    };
  }

  close(): void {
    for (const block of this.#open.values()) block.close();
    for (const gradients of this.#gradients) free(...Object.values(gradients));
  }

  #block(layer: number): OpenBlock {
    const block = this.#open.get(layer) ?? new OpenBlock(this.#net, layer);
    this.#open.set(layer, block);
    return block;
  }

  #leave(layer: number): void {
    this.#open.get(layer)?.close();
    this.#open.delete(layer);
  }

  #gradient(parameters: Parameters): Parameters {
    const gradients = makeGradients(parameters);
    this.#gradients.add(gradients);
    const bytes = [...this.#gradients].flatMap((each) => Object.values(each)).reduce((sum, tensor) => sum + byteSize(tensor), 0);
    this.#gradientBytes = Math.max(this.#gradientBytes, bytes);
    return gradients;
  }

  /** Loss and the gradients behind the last block; the head is updated here unless the embedding shares it. */
  #headAndLoss(works: Work[], gradients: Parameters): number {
    const { norm, head, tied } = outerNames(this.#net);
    const open = openHead(this.#net);
    open.collectInto(gradients);
    let total = 0;
    try {
      for (const work of works) total += this.#lossOf(work, open, gradients[head.name]);
    } finally {
      open.close();
    }
    if (!Number.isFinite(total)) {
      throw new UserError(
        `step ${this.#options.step}: the loss is not a finite number. The learning rate may be too high; nothing of this step was saved.`,
      );
    }
    if (!tied) this.#update(-1, this.#net.model.outer, gradients);
    else this.#update(-1, { [norm.name]: this.#net.model.outer[norm.name] }, gradients, [norm.name]);
    return total * this.#lossScale;
  }

  #lossOf(work: Work, open: OpenWeights, dHead_VD: Tensor): number {
    const { coupling, format, model, computeDtype, lossTileTokens } = this.#net;
    const { norm, head } = outerNames(this.#net);
    return scope(() => {
      const x_TD = leaf(coupling.end(work.streams, format));
      const normed_TD = withGrad(() => model.architecture.finalNorm(open.get(norm.name), x_TD, model.config, computeDtype));
      const { total, dHidden_TD } = lossAndGradient(
        { hidden_TD: detach(normed_TD), head_VD: detach(open.get(head.name)), labels_T: work.batch.labels, tileTokens: lossTileTokens },
        this.#lossScale,
        dHead_VD,
      );
      backward([normed_TD], [dHidden_TD]);
      work.dStreams = coupling.endGradient(takeGrad(x_TD) as Tensor).map(keep);
      return total;
    });
  }

  #embeddingGradient(works: Work[], tiedGradients: Parameters): void {
    const { coupling, model, device } = this.#net;
    const { embedding, tied } = outerNames(this.#net);
    const name = embedding.name;
    const parameters = { [name]: model.outer[name] };
    const gradients = tied ? tiedGradients : this.#gradient(parameters);
    for (const { batch, dStreams } of works) {
      scope(() =>
        indexAdd_(gradients[name], 0, fromArray(batch.tokens, [batch.tokens.length], "int64", device), coupling.beginGradient(dStreams)),
      );
    }
    this.#update(-2, parameters, gradients, [name]);
  }

  /** Clips and applies the gradients of one block (or part of the outer parameters), then frees them. */
  #update(layer: number, parameters: Parameters, gradients: Parameters, names = Object.keys(gradients)): void {
    const { step, learningRate, maxBlockGradNorm, seed } = this.#options;
    const norm = gradientNorm(names.map((name) => gradients[name]));
    if (!Number.isFinite(norm)) {
      throw new UserError(
        `step ${step}: the gradient of ${layer < 0 ? "the embedding or head" : `block ${layer}`} is not a finite number. Lower learning_rate or resume from the last checkpoint.`,
      );
    }
    this.#squaredNorm += norm * norm;
    setSeed(seedFor(seed, step, layer + 2));
    for (const name of names) {
      this.#states.update(layer, name, parameters[name], gradients[name], {
        step,
        learningRate,
        gradientScale: clipFactor(norm, maxBlockGradNorm),
      });
    }
    for (const name of names) {
      free(gradients[name]);
      delete gradients[name];
    }
    if (Object.keys(gradients).length === 0) this.#gradients.delete(gradients);
  }

  #reconstructionError(work: Work): number {
    const { format } = this.#net;
    return scope(() => {
      const truth = beginStreams(this.#net, work.batch.tokens);
      return Math.max(...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(work.streams[i]), format.toFloat(stream)))))));
    });
  }
}

function headParameters(network: Network): Parameters {
  const { norm, head } = outerNames(network);
  const { outer } = network.model;
  return { [norm.name]: outer[norm.name], [head.name]: outer[head.name] };
}

function addCounts(maps: Map<number, number[]>[]): Map<number, number[]> {
  const totals = new Map<number, number[]>();
  for (const map of maps) {
    for (const [layer, counts] of map)
      totals.set(
        layer,
        counts.map((count, expert) => count + (totals.get(layer)?.[expert] ?? 0)),
      );
  }
  return totals;
}
