// One training step, layer-major: every micro-batch passes block 1, then block 2, ...; on the way back each block is
// rebuilt, differentiated for every micro-batch into its one gradient buffer, updated and left. At any time there exist
// the streams of the micro-batches, one block's gradient and one block's working set.
import { UserError } from "../errors.js";
import type { Batch } from "../data/batches.js";
import type { Inverse } from "../metrics/record.js";
import { makeContext, type Context } from "../model/context.js";
import { makeGradients, type OpenWeights } from "../model/weights.js";
import type { Parameters } from "../model/model.js";
import { RecordedRouting } from "../model/routing.js";
import { clipFactor, gradientNorm } from "../optim/clip.js";
import { lossAndGradient } from "../reversible/loss.js";
import type { Solution } from "../reversible/fixed-point.js";
import { bitBytes, checkpoint, freeBatch, hostBytes, type BatchState, type Method } from "../reversible/methods.js";
import { backward, detach, leaf, takeGrad, withGrad } from "../torch/autograd.js";
import { ledger } from "../torch/memory.js";
import { abs, amax, cast, indexAdd_, sub } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free, isAlive, keep, scope } from "../torch/scope.js";
import { byteSize, fromArray, item, type Tensor } from "../torch/tensor.js";
import { routerJitter } from "./jitter.js";
import { embed, type Network, openHead, OpenUnit, outerNames, type Segment, segmentsOf } from "./network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import { RouterLosses, type RouterLossSettings } from "./router-losses.js";

export interface StepOptions {
  method: Method;
  /** 1 for the first step. */
  step: number;
  learningRate: number;
  maxBlockGradNorm: number;
  seed: number;
  /** Losses on the router's logits and noise on its input; without it, none. */
  router?: RouterLossSettings & { jitterNoise: number };
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
  /** Largest difference between the rebuilt and the true first streams; null where the first block is not rebuilt. */
  reconstructionError: number | null;
  inverse: Inverse | null;
  /** Load-balancing loss and z-loss of the router, without their coefficients and no part of `loss`; null where off. */
  auxLoss: number | null;
  zLoss: number | null;
  /** Tokens per expert, by layer. */
  expertCounts: Map<number, number[]>;
}

/** A micro-batch: what it carries through all segments, and its streams in each that it has reached. */
interface Work {
  batch: Batch;
  routing: RecordedRouting;
  context: Context;
  parts: BatchState<Context>[];
  /** Of the hidden state behind the segment that is being differentiated. */
  dHidden_TD: Tensor | null;
}

/** Loss and update of one step over its micro-batches. Frees all it made, also when it throws. */
export function trainStep(network: Network, states: OptimizerStates, batches: Batch[], options: StepOptions): StepResult {
  const trainedTokens = batches.reduce((total, batch) => total + batch.trainedTokens, 0);
  if (trainedTokens === 0)
    throw new UserError(`step ${options.step}: no token of this step is trained. Use longer max_length or larger batches.`);
  const tokens = batches.reduce((total, batch) => total + batch.tokens.length, 0);
  const run = new StepRun(network, states, options, { lossScale: 1 / trainedTokens, tokens });
  const works: Work[] = [];
  try {
    for (const [index, batch] of batches.entries()) works.push(run.start(batch, index));
    return { ...run.all(works), trainedTokens };
  } finally {
    for (const work of works) finish(work);
    run.close();
  }
}

function finish(work: Work): void {
  work.parts.forEach(freeBatch);
  if (work.dHidden_TD !== null && isAlive(work.dHidden_TD)) free(work.dHidden_TD);
  work.routing.free();
  free(work.context.cos_TC, work.context.sin_TC);
}

class StepRun {
  readonly #net: Network;
  readonly #segments: Segment[];
  readonly #states: OptimizerStates;
  readonly #options: StepOptions;
  readonly #lossScale: number;
  readonly #routerLosses: RouterLosses | null;
  /** Open units by their first layer; with a method that holds blocks, all of them during the step. */
  readonly #open = new Map<number, OpenUnit>();
  /** The gradients alive now. */
  #gradients = new Set<Parameters>();
  #gradientBytes = 0;
  #squaredNorm = 0;
  /** Of inverses that are solved by iteration, by layer. */
  readonly #solutions: [number, Solution][] = [];

  constructor(
    network: Network,
    states: OptimizerStates,
    options: StepOptions,
    { lossScale, tokens }: { lossScale: number; tokens: number },
  ) {
    this.#net = network;
    this.#segments = segmentsOf(network);
    this.#states = states;
    this.#options = options;
    this.#lossScale = lossScale;
    const { router } = options;
    this.#routerLosses = router && router.auxCoef + router.zCoef > 0 ? new RouterLosses(router, network.model.config, tokens) : null;
  }

  start(batch: Batch, index: number): Work {
    const { model, computeDtype, device } = this.#net;
    // First, because it fails when the embedding holds what is no finite number; the tables behind it would stay alive.
    const streams = scope(() => this.#segments[0].coupling.begin(embed(this.#net, batch.tokens), this.#segments[0].format)).map(keep);
    const routing = new RecordedRouting(model.config.numExperts);
    const context = makeContext(model.config, batch.positions, batch.segments, { computeDtype, device, routing });
    context.routerObserver = this.#routerLosses ?? undefined;
    const { router, seed, step } = this.#options;
    if (router && router.jitterNoise > 0) context.jitter = routerJitter(router.jitterNoise, seed, step, index);
    const signs = this.#signs(batch, index);
    const report = this.#reportOf(this.#segments[0]);
    return { batch, routing, context, parts: [{ context, streams, dStreams: [], kept: [], signs, report }], dHidden_TD: null };
  }

  all(works: Work[]): Omit<StepResult, "trainedTokens"> {
    const liveBefore = ledger(this.#net.device).liveBytes;
    const beganBytes = streamBytesOf(works);
    for (const s of this.#segments.keys()) this.#forward(s, works);
    const expertCounts = addCounts(works.map(({ routing }) => routing.counts()));
    this.#routerLosses?.complete(expertCounts);
    const total = (size: (work: Work) => number): number => works.reduce((sum, work) => sum + size(work), 0);
    const endedBytes = streamBytesOf(works);
    const storedBytes = {
      // What has come to live since before the first block, but for the streams themselves.
      keptBytes: ledger(this.#net.device).liveBytes - liveBefore - (endedBytes - beganBytes),
      bitBytes: total(({ parts }) => parts.reduce((sum, part) => sum + bitBytes(part), 0)),
      routingBytes: total(({ routing }) => routing.bytes),
      hostBytes: total(({ parts }) => parts.reduce((sum, part) => sum + hostBytes(part), 0)),
    };

    const tied = this.#gradient(headParameters(this.#net));
    const loss = this.#headAndLoss(works, tied);
    const streamBytes = endedBytes + total(({ dHidden_TD }) => byteSize(dHidden_TD as Tensor)) * this.#segments.at(-1)!.coupling.numStreams;
    for (const s of [...this.#segments.keys()].reverse()) this.#backward(s, works);
    const rebuilt = this.#methodOf(this.#segments[0]).name === "reversible";
    const reconstructionError = rebuilt ? Math.max(...works.map((work) => this.#reconstructionError(work))) : null;
    this.#embeddingGradient(works, tied);
    return {
      loss,
      streamBytes,
      ...storedBytes,
      reconstructionError,
      inverse: summary(this.#solutions),
      gradNorm: Math.sqrt(this.#squaredNorm),
      gradientBytes: this.#gradientBytes,
      expertCounts,
      ...(this.#routerLosses?.values() ?? { auxLoss: null, zLoss: null }),
    };
  }

  close(): void {
    for (const unit of this.#open.values()) unit.close();
    for (const gradients of this.#gradients) free(...Object.values(gradients));
  }

  #methodOf({ ordinaryEnd }: Segment): Method {
    const { method } = this.#options;
    return ordinaryEnd && method.name === "reversible" ? checkpoint : method;
  }

  #forward(index: number, works: Work[]): void {
    const segment = this.#segments[index];
    const method = this.#methodOf(segment);
    if (index > 0) for (const work of works) this.#enter(index, work);
    for (const [unit, layers] of segment.units.entries()) {
      const block = this.#unit(layers);
      for (const { parts } of works) method.forward(unit, block, parts[index], segment);
      if (!method.holdsBlocks) this.#leave(layers);
    }
  }

  /** From the streams behind one segment to those in front of the next; only rebuilding needs the former again. */
  #enter(index: number, { parts, context }: Work): void {
    const [before, after] = [this.#segments[index - 1], this.#segments[index]];
    const { streams } = parts[index - 1];
    const begun = scope(() => after.coupling.begin(before.coupling.end(streams, before.format), after.format)).map(keep);
    parts.push({ context, streams: begun, dStreams: [], kept: [], signs: parts[0].signs, report: this.#reportOf(after) });
    if (this.#methodOf(before).name === "reversible") return;
    free(...streams.filter((stream) => !begun.includes(stream)));
    parts[index - 1].streams = [];
  }

  #backward(index: number, works: Work[]): void {
    const segment = this.#segments[index];
    const { coupling, units } = segment;
    const method = this.#methodOf(segment);
    for (const work of works) {
      const dHidden_TD = work.dHidden_TD as Tensor;
      work.parts[index].dStreams = scope(() => coupling.endGradient(dHidden_TD)).map(keep);
      if (!work.parts[index].dStreams.includes(dHidden_TD)) free(dHidden_TD);
      work.dHidden_TD = null;
    }
    for (const [unit, layers] of [...units.entries()].reverse()) {
      const block = this.#unit(layers);
      const gradients = layers.map((layer) => this.#gradient(trained(this.#net, layer)));
      block.collectInto(gradients);
      for (const { parts } of works) method.backward(unit, block, parts[index], segment);
      this.#leave(layers);
      for (const [i, layer] of [...layers.entries()].reverse()) this.#update(layer, this.#net.model.blocks[layer], gradients[i]);
    }
    for (const work of works) {
      const part = work.parts[index];
      const dHidden_TD = keep(scope(() => coupling.beginGradient(part.dStreams)));
      work.dHidden_TD = dHidden_TD;
      part.dStreams = part.dStreams.filter((stream) => stream !== dHidden_TD);
      // The first segment's rebuilt streams are compared with the truth before they go.
      if (index > 0) freeBatch(part);
      else {
        free(...part.dStreams);
        part.dStreams = [];
      }
    }
  }

  #unit(layers: number[]): OpenUnit {
    const unit = this.#open.get(layers[0]) ?? new OpenUnit(this.#net, layers);
    this.#open.set(layers[0], unit);
    return unit;
  }

  #leave(layers: number[]): void {
    this.#open.get(layers[0])?.close();
    this.#open.delete(layers[0]);
  }

  #reportOf({ firstLayer = 0 }: Segment): (unit: number, solution: Solution) => void {
    return (unit, solution) => this.#solutions.push([firstLayer + unit, solution]);
  }

  /** For couplings that draw: +-1 for each document and unit, from what identifies them, so that nothing is kept. */
  #signs({ segments }: Batch, index: number): ((unit: number) => Tensor) | undefined {
    const { coupling, device } = this.#net;
    const { seed, step } = this.#options;
    if (!coupling.drawsSigns) return undefined;
    return (unit) => {
      const signs = segments.flatMap((length, document) =>
        new Array<number>(length).fill(seedFor(seed, step, index, unit, document) % 2 === 0 ? 1 : -1),
      );
      return fromArray(signs, [signs.length, 1], "float32", device);
    };
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
    const { model, computeDtype, lossTileTokens } = this.#net;
    const { coupling, format } = this.#segments.at(-1) as Segment;
    const { norm, head } = outerNames(this.#net);
    return scope(() => {
      const x_TD = leaf(coupling.end((work.parts.at(-1) as BatchState<Context>).streams, format));
      const normed_TD = withGrad(() => model.architecture.finalNorm(open.get(norm.name), x_TD, model.config, computeDtype));
      const { total, dHidden_TD } = lossAndGradient(
        { hidden_TD: detach(normed_TD), head_VD: detach(open.get(head.name)), labels_T: work.batch.labels, tileTokens: lossTileTokens },
        this.#lossScale,
        dHead_VD,
      );
      backward([normed_TD], [dHidden_TD]);
      work.dHidden_TD = keep(takeGrad(x_TD) as Tensor);
      return total;
    });
  }

  #embeddingGradient(works: Work[], tiedGradients: Parameters): void {
    const { model, device } = this.#net;
    const { embedding, tied } = outerNames(this.#net);
    const name = embedding.name;
    const parameters = { [name]: model.outer[name] };
    const gradients = tied ? tiedGradients : this.#gradient(parameters);
    for (const { batch, dHidden_TD } of works) {
      scope(() => {
        const indices_T = fromArray(batch.tokens, [batch.tokens.length], "int64", device);
        return indexAdd_(gradients[name], 0, indices_T, cast(dHidden_TD as Tensor, "float32"));
      });
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

  #reconstructionError({ batch, parts }: Work): number {
    const { coupling, format } = this.#segments[0];
    return scope(() => {
      const truth = coupling.begin(embed(this.#net, batch.tokens), format);
      return Math.max(...truth.map((stream, i) => item(amax(abs(sub(format.toFloat(parts[0].streams[i]), format.toFloat(stream)))))));
    });
  }
}

function trained({ model, frozen }: Network, layer: number): Parameters {
  return Object.fromEntries(Object.entries(model.blocks[layer]).filter(([name]) => !frozen?.has(name)));
}

function summary(solutions: [number, Solution][]): Inverse | null {
  if (solutions.length === 0) return null;
  return {
    iterations: solutions.reduce((sum, [, { iterations }]) => sum + iterations, 0) / solutions.length,
    residual: Math.max(...solutions.map(([, { residual }]) => residual)),
    diverged: [...new Set(solutions.filter(([, { diverged }]) => diverged).map(([layer]) => layer))].sort((a, b) => a - b),
  };
}

const streamBytesOf = (works: Work[]): number =>
  works.flatMap(({ parts }) => parts.flatMap(({ streams }) => streams)).reduce((sum, stream) => sum + byteSize(stream), 0);

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
