// A branch as a chain of stages, each adding to the residual stream: h_i+1 = h_i + g_i(h_i), and f(x) = sum of all g_i(h_i).
// Stages that treat each token by itself pass in tiles of tokens, so that what a tile needs inside (routed rows of experts, unless
// they are kept for gradients in groups) never exists for all tokens. The last stage of a branch is differentiated tile by tile as it is evaluated. Evaluated,
// recorded or rebuilt, tiles and the order of sums are the same, and so are the bits. A branch with a memory (a second input,
// see `Apply`) has one stage, which is not tokenwise.
import { record, backwardThrough, freeGraph, type Graph } from "../torch/graph.js";
import { detach } from "../torch/autograd.js";
import { add, copy_, narrow } from "../torch/ops.js";
import { during } from "../torch/moment.js";
import { free, scope } from "../torch/scope.js";
import { assert } from "../errors.js";
import { device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

export interface Stage<Context> {
  /** Whether each token is treated by itself. */
  tokenwise: boolean;
  /** What its evaluation is called where memory is told apart. */
  moment: string;
  /** g(h_ND) in the dtype of h_ND, of the tokens from `first` on. */
  evaluate(h_ND: Tensor, context: Context, first: number, memory_TD?: Tensor): Tensor;
}

/** Gradients of a branch's inputs; that of the memory is null where there is none. */
interface InputGradients {
  dx_TD: Tensor;
  dMemory_TD: Tensor | null;
}

/** Tokens of a tile; 0 for no tiles. */
type TileTokens = number;

/** The graphs of a branch's stages, each tile by tile. Owned by whoever recorded them, until they are differentiated. */
export type BranchGraphs = Graph[][];

/** f(x_TD); nothing is kept. */
export function evaluateStages<Context>(
  stages: Stage<Context>[],
  x_TD: Tensor,
  context: Context,
  tileTokens: TileTokens,
  memory_TD?: Tensor,
): Tensor {
  checkMemory(stages, memory_TD);
  return scope(() => {
    let f_TD: Tensor | null = null;
    for (const stage of stages) {
      const [h_TD, before_TD] = [inputOf(x_TD, f_TD), f_TD];
      f_TD = inTiles(x_TD, tileOf(stage, tileTokens), 1, (start, length) => [
        plus(before_TD, evaluated(stage, rows(h_TD, start, length), context, start, memory_TD), start),
      ])[0];
      if (before_TD !== null) free(h_TD, before_TD);
    }
    return f_TD as Tensor;
  });
}

/** f(x_TD) and its graphs. */
export function recordStages<Context>(
  stages: Stage<Context>[],
  x_TD: Tensor,
  context: Context,
  tileTokens: TileTokens,
  memory_TD?: Tensor,
): { y_TD: Tensor; graphs: BranchGraphs } {
  checkMemory(stages, memory_TD);
  const graphs: BranchGraphs = [];
  try {
    const y_TD = scope(() => {
      let f_TD: Tensor | null = null;
      for (const stage of stages) {
        const [h_TD, before_TD, tiles] = [inputOf(x_TD, f_TD), f_TD, [] as Graph[]];
        graphs.push(tiles);
        f_TD = inTiles(x_TD, tileOf(stage, tileTokens), 1, (start, length) => {
          const graph = recordTile(stage, rows(h_TD, start, length), context, start, memory_TD);
          tiles.push(graph);
          return [plus(before_TD, detach(graph.y), start)];
        })[0];
        if (before_TD !== null) free(h_TD, before_TD);
      }
      return f_TD as Tensor;
    });
    return { y_TD, graphs };
  } catch (failure) {
    freeGraphs(graphs);
    throw failure;
  }
}

/** Gradients from dy_TD through recorded graphs, which are freed; `dh_TD` is the gradient of later stages' input, if any. */
export function backwardStages(graphs: BranchGraphs, dy_TD: Tensor, dh_TD: Tensor | null = null): InputGradients {
  return scope(() => {
    let dMemory_TD: Tensor | null = null;
    for (let stage = graphs.at(-1); stage !== undefined; stage = graphs.at(-1)) {
      const r_TD = dh_TD === null ? dy_TD : add(dy_TD, dh_TD);
      const tiles = stage;
      const [d_TD, ofMemory_TD = null] = inTiles(dy_TD, shape(tiles[0].inputs[0])[0], 1, (start, length) =>
        inputGradients(tiles.shift() as Graph, rows(r_TD, start, length)),
      );
      dh_TD = dh_TD === null ? d_TD : add(dh_TD, d_TD);
      dMemory_TD = ofMemory_TD;
      graphs.pop();
    }
    return { dx_TD: dh_TD as Tensor, dMemory_TD };
  });
}

/** f(x_TD), and the gradients from dy_TD. */
export function differentiateStages<Context>(
  stages: Stage<Context>[],
  x_TD: Tensor,
  dy_TD: Tensor,
  context: Context,
  tileTokens: TileTokens,
  memory_TD?: Tensor,
): InputGradients & { y_TD: Tensor } {
  checkMemory(stages, memory_TD);
  const last = stages[stages.length - 1];
  return scope(() => {
    const earlier = stages.length === 1 ? null : recordStages(stages.slice(0, -1), x_TD, context, tileTokens);
    const graphs = earlier?.graphs ?? [];
    try {
      const before_TD = earlier?.y_TD ?? null;
      const h_TD = inputOf(x_TD, before_TD);
      const [y_TD, dh_TD, dMemory_TD = null] = inTiles(x_TD, tileOf(last, tileTokens), 2, (start, length) => {
        const graph = recordTile(last, rows(h_TD, start, length), context, start, memory_TD);
        const y_ND = plus(before_TD, detach(graph.y), start);
        return [y_ND, ...inputGradients(graph, rows(dy_TD, start, length))];
      });
      if (before_TD !== null) free(h_TD, before_TD);
      return { y_TD, ...(graphs.length === 0 ? { dx_TD: dh_TD, dMemory_TD } : backwardStages(graphs, dy_TD, dh_TD)) };
    } finally {
      freeGraphs(graphs);
    }
  });
}

export function freeGraphs(graphs: BranchGraphs): void {
  graphs.flat().forEach(freeGraph);
  graphs.length = 0;
}

function recordTile<Context>(stage: Stage<Context>, h_ND: Tensor, context: Context, first: number, memory_TD?: Tensor): Graph {
  const inputs = memory_TD === undefined ? [h_ND] : [h_ND, memory_TD];
  return during(stage.moment, () => record(inputs, (h, memory) => stage.evaluate(h, context, first, memory)));
}

const evaluated = <Context>(stage: Stage<Context>, h_ND: Tensor, context: Context, first: number, memory_TD?: Tensor): Tensor =>
  during(stage.moment, () => stage.evaluate(h_ND, context, first, memory_TD));

/** Of the tokens, then of the memory where there is one. */
function inputGradients(graph: Graph, dy_ND: Tensor): Tensor[] {
  return backwardThrough(graph, dy_ND).map((gradient) => {
    assert(gradient !== null, "a branch does not depend on its input");
    return gradient;
  });
}

function checkMemory<Context>(stages: Stage<Context>[], memory_TD: Tensor | undefined): void {
  assert(memory_TD === undefined || (stages.length === 1 && !stages[0].tokenwise), "a memory is for one stage of all tokens");
}

const tileOf = ({ tokenwise }: Stage<never>, tileTokens: TileTokens): number => (tokenwise && tileTokens > 0 ? tileTokens : Infinity);

const inputOf = (x_TD: Tensor, f_TD: Tensor | null): Tensor => (f_TD === null ? x_TD : add(x_TD, f_TD));

const rows = (t_TD: Tensor, start: number, length: number): Tensor => (length === shape(t_TD)[0] ? t_TD : narrow(t_TD, 0, start, length));

const plus = (f_TD: Tensor | null, y_ND: Tensor, start: number): Tensor =>
  f_TD === null ? y_ND : add(rows(f_TD, start, shape(y_ND)[0]), y_ND);

/** Results of `of` for tiles of rows, put together; all have the shape of `like` in its rows. */
function inTiles(like: Tensor, tile: number, count: number, of: (start: number, length: number) => Tensor[]): Tensor[] {
  const [tokens] = shape(like);
  if (tokens <= tile) return scope(() => of(0, tokens));
  const whole = Array.from({ length: count }, () => empty(shape(like), dtype(like), device(like)));
  for (let start = 0; start < tokens; start += tile) {
    const length = Math.min(tile, tokens - start);
    scope(() => of(start, length).forEach((part, i) => copy_(narrow(whole[i], 0, start, length), part)));
  }
  return whole;
}
