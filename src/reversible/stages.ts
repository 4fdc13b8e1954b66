// A branch as a chain of stages, each adding to the residual stream: h_i+1 = h_i + g_i(h_i), and f(x) = sum of all
// g_i(h_i). Tokenwise stages pass in tiles of tokens, so what a tile needs inside (routed rows of experts, unless they
// are kept for gradients in groups) never exists for all tokens. A block's last stage is differentiated tile by tile as
// it is evaluated. Tiles and the order of sums are the same for evaluating, recording and rebuilding, so bits are, too.
// A branch with a memory (a second input, see `Apply`) has one stage, which is not tokenwise.
import { record, backwardThrough, freeGraph, type Graph } from "../torch/graph.js";
import { detach } from "../torch/autograd.js";
import { add, copy_, narrow } from "../torch/ops.js";
import { during } from "../torch/span.js";
import { forEachTile } from "../torch/repeat.js";
import { free, scope } from "../torch/scope.js";
import { assert } from "../errors.js";
import { device, dtype, empty, shape, type Tensor } from "../torch/tensor.js";

export interface Stage<Context> {
  /** Whether each token is treated by itself. */
  tokenwise: boolean;
  /** The name of its span, under which its memory is counted. */
  span: string;
  /** g(h_ND) in the dtype of h_ND; `first` is the index of its first token. */
  evaluate(h_ND: Tensor, context: Context, first: number, memory_TD?: Tensor): Tensor;
}

/** The inputs of a branch. */
interface Input<Context> {
  x_TD: Tensor;
  context: Context;
  /** Tokens of a tile; 0 for no tiles. */
  tileTokens: number;
  memory_TD?: Tensor;
}

/** Gradients of a branch's inputs; `dMemory_TD` is null without a memory. */
interface InputGradients {
  dx_TD: Tensor;
  dMemory_TD: Tensor | null;
}

/**
 * The graphs of a branch's stages, each tile by tile. Whoever recorded them owns them until they are differentiated.
 */
export type BranchGraphs = Graph[][];

/** f(x_TD), added to `before_TD`, the sum of the stages before, if there are some; keeps nothing. */
export function evaluateStages<Context>(
  stages: Stage<Context>[],
  input: Input<Context>,
  before_TD: Tensor | null = null,
): Tensor {
  return alongStages(stages, input, before_TD, (stage, h_ND, first) =>
    during(stage.span, () => stage.evaluate(h_ND, input.context, first, input.memory_TD)),
  );
}

/** The same, and its graphs. */
export function recordStages<Context>(
  stages: Stage<Context>[],
  input: Input<Context>,
  before_TD: Tensor | null = null,
): { y_TD: Tensor; graphs: BranchGraphs } {
  const graphs: BranchGraphs = [];
  try {
    const y_TD = alongStages(stages, input, before_TD, (stage, h_ND, first) => {
      if (first === 0) graphs.push([]);
      const graph = recordTile(stage, h_ND, first, input);
      graphs[graphs.length - 1].push(graph);
      return detach(graph.y);
    });
    return { y_TD, graphs };
  } catch (failure) {
    freeGraphs(graphs);
    throw failure;
  }
}

/**
 * Gradients from dy_TD through recorded graphs, which are freed; `dh_TD` is the gradient of later stages' input, if
 * any.
 */
export function backwardStages(graphs: BranchGraphs, dy_TD: Tensor, dh_TD: Tensor | null = null): InputGradients {
  return scope(() => {
    let dMemory_TD: Tensor | null = null;
    for (let stage = graphs.at(-1); stage !== undefined; stage = graphs.at(-1)) {
      const r_TD = sum(dy_TD, dh_TD);
      const tiles = stage;
      const [d_TD, ofMemory_TD = null] = inTiles(dy_TD, shape(tiles[0].inputs[0])[0], 1, (start, length) =>
        inputGradients(tiles.shift() as Graph, rows(r_TD, start, length)),
      );
      dh_TD = sum(d_TD, dh_TD);
      dMemory_TD = ofMemory_TD;
      graphs.pop();
    }
    return { dx_TD: dh_TD as Tensor, dMemory_TD };
  });
}

/**
 * f(x_TD), and the gradients from dy_TD. If the stages are several blocks, only the sum in front of each is held, and
 * all but the last are evaluated once more; so one block's graph exists at a time.
 */
export function differentiateStages<Context>(
  stages: Stage<Context>[],
  input: Input<Context>,
  dy_TD: Tensor,
): InputGradients & { y_TD: Tensor } {
  checkMemory(stages, input);
  const blocks = blocksOf(stages);
  return scope(() => {
    const sums: (Tensor | null)[] = [null];
    for (const block of blocks.slice(0, -1)) sums.push(evaluateStages(block, input, sums[sums.length - 1]));
    const last = blocks.length - 1;
    const { y_TD, dMemory_TD, ...found } = differentiateBlock(blocks[last], input, sums[last], dy_TD, null);
    let { dx_TD } = found;
    for (let i = last - 1; i >= 0; i--) {
      const dh_TD = dx_TD;
      dx_TD = scope(() => differentiateBlock(blocks[i], input, sums[i], dy_TD, dh_TD).dx_TD);
      free(dh_TD);
    }
    return { y_TD: y_TD as Tensor, dx_TD, dMemory_TD };
  });
}

/**
 * Differentiates one block: its last stage tile by tile as it is evaluated, earlier ones from their graphs. `dh_TD` is
 * the gradient of the next block's input. Without a next block, `y_TD` is the branch's value. Frees before_TD.
 */
function differentiateBlock<Context>(
  stages: Stage<Context>[],
  input: Input<Context>,
  before_TD: Tensor | null,
  dy_TD: Tensor,
  dh_TD: Tensor | null,
): InputGradients & { y_TD: Tensor | null } {
  const last = stages[stages.length - 1];
  const isLast = dh_TD === null;
  return scope(() => {
    const earlier = stages.length === 1 ? null : recordStages(stages.slice(0, -1), input, before_TD);
    const graphs = earlier?.graphs ?? [];
    try {
      const f_TD = earlier?.y_TD ?? before_TD;
      if (earlier !== null && before_TD !== null) free(before_TD);
      const h_TD = sum(input.x_TD, f_TD);
      const results = inTiles(input.x_TD, tileOf(last, input), isLast ? 2 : 1, (start, length) => {
        const graph = recordTile(last, rows(h_TD, start, length), start, input);
        const value = isLast ? [plus(f_TD, detach(graph.y), start)] : [];
        const dLater_ND = dh_TD && rows(dh_TD, start, length);
        return [...value, ...inputGradients(graph, sum(rows(dy_TD, start, length), dLater_ND))];
      });
      const y_TD = isLast ? (results.shift() as Tensor) : null;
      const [d_TD, dMemory_TD = null] = results;
      if (f_TD !== null) free(h_TD, f_TD);
      const dLast_TD = sum(d_TD, dh_TD);
      return {
        y_TD,
        ...(graphs.length === 0 ? { dx_TD: dLast_TD, dMemory_TD } : backwardStages(graphs, dy_TD, dLast_TD)),
      };
    } finally {
      freeGraphs(graphs);
    }
  });
}

export function freeGraphs(graphs: BranchGraphs): void {
  graphs.flat().forEach(freeGraph);
  graphs.length = 0;
}

/** A block ends with a tokenwise stage, so a stage that is not tokenwise begins the next one. */
function blocksOf<Context>(stages: Stage<Context>[]): Stage<Context>[][] {
  const blocks: Stage<Context>[][] = [];
  stages.forEach((stage, i) => {
    if (i === 0 || (stages[i - 1].tokenwise && !stage.tokenwise)) blocks.push([]);
    blocks[blocks.length - 1].push(stage);
  });
  return blocks;
}

/** before_TD + sum of g_i(h_i); `of` evaluates g_i for a tile. */
function alongStages<Context>(
  stages: Stage<Context>[],
  input: Input<Context>,
  before_TD: Tensor | null,
  of: (stage: Stage<Context>, h_ND: Tensor, first: number) => Tensor,
): Tensor {
  checkMemory(stages, input);
  const { x_TD } = input;
  return scope(() => {
    let f_TD = before_TD;
    for (const stage of stages) {
      const sum_TD = f_TD;
      const h_TD = sum(x_TD, sum_TD);
      f_TD = inTiles(x_TD, tileOf(stage, input), 1, (start, length) => [
        plus(sum_TD, of(stage, rows(h_TD, start, length), start), start),
      ])[0];
      if (sum_TD !== null) free(h_TD);
      if (sum_TD !== null && sum_TD !== before_TD) free(sum_TD);
    }
    return f_TD as Tensor;
  });
}

function recordTile<Context>(
  stage: Stage<Context>,
  h_ND: Tensor,
  first: number,
  { context, memory_TD }: Input<Context>,
): Graph {
  const inputs = memory_TD === undefined ? [h_ND] : [h_ND, memory_TD];
  return during(stage.span, () => record(inputs, (h, memory) => stage.evaluate(h, context, first, memory)));
}

/** Gradients of the tokens, then of the memory if there is one. */
function inputGradients(graph: Graph, dy_ND: Tensor): Tensor[] {
  return backwardThrough(graph, dy_ND).map((gradient) => {
    assert(gradient !== null, "a branch does not depend on its input");
    return gradient;
  });
}

function checkMemory<Context>(stages: Stage<Context>[], { memory_TD }: Input<Context>): void {
  assert(
    memory_TD === undefined || (stages.length === 1 && !stages[0].tokenwise),
    "a memory is for one stage of all tokens",
  );
}

const tileOf = ({ tokenwise }: Stage<never>, { tileTokens }: Input<unknown>): number =>
  tokenwise && tileTokens > 0 ? tileTokens : Infinity;

const sum = (a_TD: Tensor, b_TD: Tensor | null): Tensor => (b_TD === null ? a_TD : add(a_TD, b_TD));

const rows = (t_TD: Tensor, start: number, length: number): Tensor =>
  length === shape(t_TD)[0] ? t_TD : narrow(t_TD, 0, start, length);

const plus = (f_TD: Tensor | null, y_ND: Tensor, start: number): Tensor =>
  f_TD === null ? y_ND : add(rows(f_TD, start, shape(y_ND)[0]), y_ND);

/** Calls `of` for tiles of rows and joins its `count` results; each has the shape of `like`. */
function inTiles(like: Tensor, tile: number, count: number, of: (start: number, length: number) => Tensor[]): Tensor[] {
  const [tokens] = shape(like);
  if (tokens <= tile) return scope(() => of(0, tokens));
  const whole = Array.from({ length: count }, () => empty(shape(like), dtype(like), device(like)));
  forEachTile(tokens, tile, (start, length) =>
    scope(() => of(start, length).forEach((part, i) => copy_(narrow(whole[i], 0, start, length), part))),
  );
  return whole;
}
