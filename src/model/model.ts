// A model in memory: its settings and its parameters in storage dtype, one record per block. The model owns its tensors;
// `freeModel` releases them. Where parameters come from (a checkpoint, or random numbers here) is the caller's choice.
import { normal_ } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free } from "../torch/scope.js";
import { byteSize, full, zeros, type DType, type Tensor } from "../torch/tensor.js";
import { makeAdapter } from "./adapters.js";
import type { Architecture, ModelConfig, ParameterSpec } from "./architecture.js";

export type Parameters = Record<string, Tensor>;

export interface Model {
  architecture: Architecture;
  config: ModelConfig;
  /** Embedding, final norm, head (when not tied), by name on disk. */
  outer: Parameters;
  /** Block parameters by name without the block's prefix. */
  blocks: Parameters[];
}

/** One parameter of a model with its place: `layer` -1 stands for the outer parameters. */
export interface PlacedParameter {
  layer: number;
  spec: ParameterSpec;
  /** Prefix of the name on disk. */
  prefix: string;
}

/** Which parameters are trained, by place and name; `layer` -1 stands for the outer ones. */
export type Trains = (layer: number, name: string) => boolean;

/** Those of `parameters` that are trained. */
export const trainedOf = (parameters: Parameters, layer: number, trains: Trains = () => true): Parameters =>
  Object.fromEntries(Object.entries(parameters).filter(([name]) => trains(layer, name)));

/** Every parameter of a model in the order of the forward pass. */
export function placedParameters(architecture: Architecture, config: ModelConfig): PlacedParameter[] {
  const { embedding, norm, head } = architecture.outerParameters(config);
  const outer = (spec: ParameterSpec): PlacedParameter => ({ layer: -1, spec, prefix: "" });
  const placed = [outer(embedding)];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const prefix = architecture.blockPrefix(layer);
    for (const spec of architecture.blockParameters(config, layer)) placed.push({ layer, spec, prefix });
  }
  placed.push(outer(norm));
  if (head) placed.push(outer(head));
  return placed;
}

/** A model whose parameters `make` supplies one by one; `make` hands over ownership. */
export function buildModel(architecture: Architecture, config: ModelConfig, make: (placed: PlacedParameter) => Tensor): Model {
  const outer: Parameters = {};
  const blocks: Parameters[] = Array.from({ length: config.numLayers }, () => ({}));
  for (const placed of placedParameters(architecture, config)) {
    (placed.layer < 0 ? outer : blocks[placed.layer])[placed.spec.name] = make(placed);
  }
  return { architecture, config, outer, blocks };
}

/** Random parameters as transformers initialises them: normal(0, initializer_range), ones for norms, zeros for biases. */
export function randomModel(architecture: Architecture, config: ModelConfig, seed: number, dtype: DType, device: string): Model {
  let index = 0;
  return buildModel(architecture, config, ({ spec }) => {
    if (spec.adapter) return makeAdapter(spec, [seed, index++], dtype, device);
    setSeed(seedFor(seed, index++));
    if (spec.init !== "normal") return full(spec.shape, spec.init === "ones" ? 1 : 0, dtype, device);
    return normal_(zeros(spec.shape, dtype, device), 0, config.initializerRange);
  });
}

export function allParameters(model: Model): Tensor[] {
  return [model.outer, ...model.blocks].flatMap((parameters) => Object.values(parameters));
}

export const parameterCount = (specs: PlacedParameter[]): number =>
  specs.reduce((total, { spec }) => total + spec.shape.reduce((product, size) => product * size, 1), 0);

export const weightBytes = (model: Model): number => allParameters(model).reduce((total, parameter) => total + byteSize(parameter), 0);

export const freeModel = (model: Model): void => free(...allParameters(model));
