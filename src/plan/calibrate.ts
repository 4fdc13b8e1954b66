// An estimate of a step's time from a few timed products of the model's shapes on this machine. Products alone: what lies
// between them is not timed, so a step takes longer; it says which of two plans is quicker, and roughly how long a run is.
import type { ModelConfig } from "../model/architecture.js";
import { fastestDtype } from "../torch/device.js";
import { bmm, linear } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type DType, type Tensor, zeros } from "../torch/tensor.js";
import type { TrainSettings } from "../train/settings.js";

interface Product {
  /** How often a forward pass does it. */
  times: number;
  /** Makes the factors, for the caller's scope, and returns what multiplies them. */
  prepare(): () => unknown;
}

const MEASURED = 3;
/** A pass forward, and one back: two products for each of the forward pass. */
const WITH_GRAPH = 3;

/** Milliseconds of matrix products in a step on the CPU. */
export function productMs(settings: TrainSettings, config: ModelConfig): number {
  const computeDtype = settings.compute_dtype === "auto" ? fastestDtype(settings.device) : settings.compute_dtype;
  // Blocks are computed once more where nothing of them was kept.
  const passes = settings.method === "store" ? WITH_GRAPH : WITH_GRAPH + 1;
  const { blocks, head } = productsOf(settings, config, computeDtype);
  const total = (products: Product[]): number =>
    products.reduce((sum, { times, prepare }) => sum + times * scope(() => timed(prepare())), 0);
  return settings.gradient_accumulation_steps * (passes * total(blocks) + WITH_GRAPH * total(head));
}

function productsOf(settings: TrainSettings, config: ModelConfig, type: DType): { blocks: Product[]; head: Product[] } {
  const { per_device_train_batch_size: rows, max_length: length, tile_tokens, loss_tile_tokens } = settings;
  const { hiddenSize: D, numLayers, numHeads: H, numKeyValueHeads: K, headDim: C, sparse } = config;
  const tokens = rows * length;
  const tile = Math.min(tokens, tile_tokens || tokens);
  const lossTile = Math.min(tokens, loss_tile_tokens);
  const sparseLayers = sparse.filter(Boolean).length;
  const denseLayers = numLayers - sparseLayers;
  const perExpert = Math.max(1, Math.round((tile * config.expertsPerToken) / Math.max(1, config.numExperts)));
  const busy = Math.min(config.numExperts, tile * config.expertsPerToken);
  const tiles = tokens / tile;
  const matrix = (times: number, count: number, inputs: number, outputs: number): Product[] =>
    times === 0 || outputs === 0
      ? []
      : [{ times, prepare: () => multiplied(zeros([count, inputs], type), zeros([outputs, inputs], type)) }];
  const gated = (times: number, count: number, width: number): Product[] => [
    ...matrix(times, count, D, 2 * width),
    ...matrix(times, count, width, D),
  ];
  // Half of the scores are masked and not computed.
  const scores: Product = {
    times: (numLayers * rows * length) / 256 / 2,
    prepare: () => {
      const [q, k, v] = [zeros([H, Math.min(256, length), C], type), zeros([H, C, length], type), zeros([H, length, C], type)];
      return () => bmm(bmm(q, k), v);
    },
  };
  return {
    blocks: [
      ...matrix(numLayers, tokens, D, (H + 2 * K) * C),
      ...matrix(numLayers, tokens, H * C, D),
      scores,
      ...gated(sparseLayers * tiles * busy, perExpert, config.expertWidth),
      ...gated(sparseLayers * tiles, tile, config.sharedExpertWidth),
      ...gated(denseLayers * tiles, tile, config.denseWidth),
    ],
    head: matrix(tokens / lossTile, lossTile, D, config.vocabSize),
  };
}

const multiplied = (x: Tensor, weight: Tensor) => () => linear(x, weight);

/** The least of a few times, after one that is not counted. */
function timed(run: () => unknown): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i <= MEASURED; i++) {
    const started = performance.now();
    scope(() => void run());
    if (i > 0) least = Math.min(least, performance.now() - started);
  }
  return least;
}
