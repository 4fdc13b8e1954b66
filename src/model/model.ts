// A model in memory: its settings and its parameters in storage dtype, one record per block. The model owns its
// tensors; `freeModel` releases them. Where parameters come from (a checkpoint, or random numbers here) is the caller's
// choice.
import { copy_, fill_, narrow, normal_, view } from "../torch/ops.js";
import { seedFor, setSeed } from "../torch/random.js";
import { free, keep, scope } from "../torch/scope.js";
import {
  byteSize,
  DTYPES,
  device as deviceOf,
  dtype as dtypeOf,
  empty,
  numel,
  type DType,
  type Rows,
  type Tensor,
} from "../torch/tensor.js";
import { makeAdapter } from "./adapters.js";
import { type Architecture, layerParameters, type ParameterSpec } from "./architecture.js";

export type Parameters = Record<string, Tensor>;

export interface Model {
  architecture: Architecture;
  /** Embedding, final norm, head (when not tied), by name on disk. */
  outer: Parameters;
  /** Block parameters by name without the block's prefix. */
  blocks: Parameters[];
  /** Tensors that pass through (see `passThrough` of `Architecture`); undefined if there are none. */
  passed?: PassedTensors;
}

/** Tensors by their names on disk. Until `close` they lie in their files, even if these have been deleted. */
export interface PassedTensors {
  /** The tensor that `read` returns belongs to the caller's scope. */
  tensors: { name: string; dtype: DType; shape: number[]; read(): Tensor }[];
  close(): void;
}

/** One parameter of a model with its place: `layer` -1 means the outer parameters. */
export interface PlacedParameter {
  layer: number;
  spec: ParameterSpec;
  /** Prefix of the name on disk. */
  prefix: string;
}

/** Which rows of a parameter this process holds, where several share a model. */
export type HeldRows = (placed: PlacedParameter) => Rows;

export const allRows: HeldRows = ({ spec: { shape } }) => ({ first: 0, count: shape[0] });

/** Which parameters are trained, by place and name; `layer` -1 means the outer parameters. */
export type Trains = (layer: number, name: string) => boolean;

/** The trained ones of `parameters`, which must hold no buffer. */
export const trainedOf = (parameters: Parameters, layer: number, trains: Trains = () => true): Parameters =>
  Object.fromEntries(Object.entries(parameters).filter(([name]) => trains(layer, name)));

/** The trained parameters of a block. */
export function trainedInBlock({ architecture, blocks }: Model, layer: number, trains?: Trains): Parameters {
  const weights = layerParameters(architecture.layers[layer]).filter(({ buffer }) => !buffer);
  return trainedOf(Object.fromEntries(weights.map(({ name }) => [name, blocks[layer][name]])), layer, trains);
}

/** The dtype in which a parameter is stored if weights have `dtype`. */
export const storedDtype = ({ spec }: PlacedParameter, dtype: DType): DType => (spec.buffer ? "float32" : dtype);

/** Every parameter of a model in the order of the forward pass. */
export function placedParameters({ outer: { embedding, norm, head }, layers }: Architecture): PlacedParameter[] {
  const outer = (spec: ParameterSpec): PlacedParameter => ({ layer: -1, spec, prefix: "" });
  return [
    outer(embedding),
    ...layers.flatMap((own, layer) => layerParameters(own).map((spec) => ({ layer, spec, prefix: own.prefix }))),
    outer(norm),
    ...(head ? [outer(head)] : []),
  ];
}

/** Every parameter that can be trained. */
export const placedWeights = (architecture: Architecture): PlacedParameter[] =>
  placedParameters(architecture).filter(({ spec }) => !spec.buffer);

/** A model whose parameters `make` makes one by one; the model owns them. */
export function buildModel(architecture: Architecture, make: (placed: PlacedParameter) => Tensor): Model {
  const outer: Parameters = {};
  const blocks: Parameters[] = architecture.layers.map(() => ({}));
  for (const placed of placedParameters(architecture)) {
    (placed.layer < 0 ? outer : blocks[placed.layer])[placed.spec.name] = make(placed);
  }
  return { architecture, outer, blocks };
}

/**
 * Makes room for parameters before they have values. Given all of them with their dtypes, it returns a function to each
 * one's tensor, which has only the rows held here. Call it in the order of the forward pass, and fill each tensor
 * before the next call. The model owns them.
 */
export type Allocate = (planned: { placed: PlacedParameter; dtype: DType }[]) => (placed: PlacedParameter) => Tensor;

/** Room for each parameter by itself, made by `make` when it is asked for. */
export const oneByOne =
  (make: (shape: number[], dtype: DType) => Tensor): Allocate =>
  (planned) => {
    const types = new Map(planned.map(({ placed: { prefix, spec }, dtype }) => [prefix + spec.name, dtype]));
    return ({ prefix, spec }) => keep(make(spec.shape, types.get(prefix + spec.name) as DType));
  };

/** Room in a device's memory. */
export const inMemory = (device: string): Allocate => oneByOne((shape, dtype) => empty(shape, dtype, device));

/**
 * Random parameters as transformers initialises them: normal(0, initializer_range), ones for norms, zeros for biases.
 * They are drawn on `device`, wherever they lie (float64, for tests: drawn where they lie).
 */
export function randomModel(
  architecture: Architecture,
  seed: number,
  dtype: DType,
  device: string,
  allocate: Allocate = inMemory(device),
  held: HeldRows = allRows,
): Model {
  const room = allocate(
    placedParameters(architecture).map((placed) => ({ placed, dtype: storedDtype(placed, dtype) })),
  );
  let index = 0;
  return buildModel(architecture, (placed) => {
    const { spec } = placed;
    const parameter = room(placed);
    const { first, count } = held(placed);
    const own = index++;
    if (count === 0) return parameter;
    if (spec.adapter) scope(() => void copy_(parameter, makeAdapter(spec, [seed, own], dtype, device)));
    else if (spec.init !== "normal") fill_(parameter, spec.init === "ones" ? 1 : 0);
    else {
      setSeed(seedFor(seed, own));
      if (count === spec.shape[0]) fillNormal(parameter, architecture.initializerRange, device);
      else
        scope(() => {
          // Numbers are drawn for the whole parameter, so its rows do not depend on the ranks.
          const whole = empty(spec.shape, dtypeOf(parameter), deviceOf(parameter));
          fillNormal(whole, architecture.initializerRange, device);
          copy_(parameter, narrow(whole, 0, first, count));
        });
    }
    return parameter;
  });
}

// Tiles are drawn in float32: the engine draws it several times faster than bfloat16, and tiles need no second copy of
// the whole.
const DRAWN_ELEMENTS = 1 << 20;

function fillNormal(parameter: Tensor, deviation: number, device: string): void {
  if (dtypeOf(parameter) === "float64") return void normal_(parameter, 0, deviation);
  const inPlace = dtypeOf(parameter) === "float32" && deviceOf(parameter).startsWith(device);
  const elements = numel(parameter);
  for (let start = 0; start < elements; start += DRAWN_ELEMENTS) {
    scope(() => {
      const count = Math.min(DRAWN_ELEMENTS, elements - start);
      const tile = narrow(view(parameter, [elements]), 0, start, count);
      const drawn = normal_(inPlace ? tile : empty([count], "float32", device), 0, deviation);
      if (!inPlace) copy_(tile, drawn);
    });
  }
}

export function allParameters(model: Model): Tensor[] {
  return [model.outer, ...model.blocks].flatMap((parameters) => Object.values(parameters));
}

export const parameterCount = (specs: PlacedParameter[]): number =>
  specs.reduce((total, { spec }) => total + spec.shape.reduce((product, size) => product * size, 1), 0);

export const weightBytes = (model: Model): number =>
  allParameters(model).reduce((total, parameter) => total + byteSize(parameter), 0);

/** The tensor of a parameter in a model. */
export const parameterOf = ({ outer, blocks }: Model, { layer, spec }: PlacedParameter): Tensor =>
  (layer < 0 ? outer : blocks[layer])[spec.name];

/** Bytes of a model as it is saved: whole, not this rank's rows alone. */
export function savedBytes(model: Model): number {
  const bytesOf = (type: DType, shape: readonly number[]): number =>
    shape.reduce((product, size) => product * size, DTYPES[type]);
  return [
    ...placedParameters(model.architecture).map((placed) => ({
      dtype: dtypeOf(parameterOf(model, placed)),
      shape: placed.spec.shape,
    })),
    ...(model.passed?.tensors ?? []),
  ].reduce((total, { dtype, shape }) => total + bytesOf(dtype, shape), 0);
}

export function freeModel(model: Model): void {
  free(...allParameters(model));
  model.passed?.close();
}
