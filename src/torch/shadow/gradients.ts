// Automatic differentiation without numbers, in the order and with the lifetimes of libtorch's engine: nodes run by
// falling sequence number, what a node saved is freed after it has run, and gradients that meet are added in place if
// nobody else holds them (torch/csrc/autograd/engine.cpp, input_buffer.cpp, accumulate_grad.h).
import { add, castTo, sumTo } from "./arithmetic.js";
import { isDense } from "./shapes.js";
import { drop, type Edge, type Gradient, hold, Node, type Value, viewOf } from "./values.js";
import { isCpu } from "../device-name.js";

let enabled = false;

export function setRecording(on: boolean): boolean {
  const before = enabled;
  enabled = on;
  return before;
}

const NONE: never[] = [];
const noGradient = (): [] => [];

function edgeOf(value: Value): Edge | null {
  if (value.node !== null) return { node: value.node, result: value.result };
  if (!value.requiresGrad) return null;
  value.accumulator ??= new Node(NONE, NONE, [], noGradient, value);
  return { node: value.accumulator, result: 0 };
}

export const isRecording = (): boolean => enabled;

/** Whether results computed from `inputs` become part of a graph. */
export const records = (inputs: readonly (Value | null)[]): boolean =>
  enabled && inputs.some((input) => input?.requiresGrad);

/** Makes `results` the results of a node, if a graph is recorded and an input has a gradient. */
export function record<Result extends Value | Value[]>(
  results: Result,
  inputs: readonly (Value | null)[],
  saved: readonly (Value | null)[],
  gradient: Gradient,
): Result {
  if (!records(inputs)) return results;
  const edges = inputs.map((input) => input && edgeOf(input));
  const looks = inputs.map((input) => ({ sizes: input?.sizes ?? [], dtype: input?.dtype ?? ("float32" as const) }));
  // If a node saves its own result, it holds only the storage: the result holds the node, not the other way around.
  const own: Value[] = Array.isArray(results) ? results : [results];
  const kept: Value[] = [];
  for (const value of saved)
    if (value !== null) kept.push(own.includes(value) ? viewOf(value, value.sizes, value.strides) : hold(value));
  const node = new Node(edges, looks, kept, gradient);
  for (const [i, result] of own.entries()) {
    result.requiresGrad = true;
    result.node = node;
    result.result = i;
    node.holders++;
  }
  return results;
}

/** Adds to the gradients of leaves; the given gradients stay the caller's. */
export function backward(outputs: readonly Value[], gradients: readonly Value[]): void {
  const waiting = new Map<Node, number>();
  const roots = outputs.flatMap((output, i) => {
    const edge = edgeOf(output);
    return edge === null ? [] : [{ edge, gradient: gradients[i] }];
  });
  const seen = new Set<Node>();
  const stack = roots.map(({ edge }) => edge.node);
  while (stack.length > 0) {
    const node = stack.pop() as Node;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const edge of node.edges) {
      if (edge === null) continue;
      waiting.set(edge.node, (waiting.get(edge.node) ?? 0) + 1);
      stack.push(edge.node);
    }
  }
  const before = setRecording(false);
  const buffers = new Map<Node, Value[]>();
  const ready = new Ready();
  for (const { edge, gradient } of roots) put(buffers, edge, hold(gradient));
  for (const node of new Set(roots.map(({ edge }) => edge.node))) {
    node.holders++;
    if (!waiting.get(node)) ready.add(node);
  }
  const rooted = [...new Set(roots.map(({ edge }) => edge.node))];
  for (let node = ready.take(); node !== undefined; node = ready.take()) {
    const gradients = (buffers.get(node) as Value[]).filter((dy) => dy !== undefined);
    buffers.delete(node);
    const made = run(node, gradients[0]);
    for (const dy of gradients) drop(dy);
    if (node.leaf === null) node.forget();
    for (let i = 0; i < node.edges.length; i++) {
      const edge = node.edges[i];
      if (edge === null) continue;
      const gradient = made[i];
      if (gradient) put(buffers, edge, gradient);
      const left = (waiting.get(edge.node) as number) - 1;
      waiting.set(edge.node, left);
      if (left === 0 && buffers.has(edge.node)) ready.add(edge.node);
    }
  }
  setRecording(before);
  for (const node of rooted) node.release();
}

function run(node: Node, dy: Value): (Value | null)[] {
  if (node.leaf !== null) {
    accumulate(node.leaf, dy);
    return [];
  }
  const needed = node.edges.map((edge) => edge !== null);
  return node.gradient(dy, needed, node.saved).map((gradient, i) => {
    if (gradient === null || !needed[i]) {
      drop(gradient);
      return null;
    }
    return likeInput(gradient, node.inputs[i]);
  });
}

function likeInput(gradient: Value, { sizes, dtype }: Node["inputs"][number]): Value {
  const summed = sumTo(gradient, sizes);
  if (summed.dtype === dtype) return summed;
  const right = castTo(summed, dtype);
  drop(summed);
  return right;
}

/** Consumes the gradient; those of a node's several results wait side by side. */
function put(buffers: Map<Node, Value[]>, { node, result }: Edge, gradient: Value): void {
  const waiting = buffers.get(node) ?? [];
  buffers.set(node, waiting);
  const before = waiting[result];
  if (before === undefined) {
    waiting[result] = gradient;
    return;
  }
  const alone = before.holders === 1 && before.storage.holders === 1 && isDense(before.sizes, before.strides);
  if (!alone) {
    waiting[result] = add(before, gradient);
    drop(before);
  }
  drop(gradient);
}

function accumulate(leaf: Value, dy: Value): void {
  if (leaf.grad !== null) {
    // In place; if dtypes differ, through a copy in the wider one.
    if (leaf.grad.dtype !== dy.dtype && isCpu(dy.device)) drop(castTo(dy, leaf.grad.dtype));
    return;
  }
  const same = dy.strides.every((stride, i) => stride === leaf.strides[i] || dy.sizes[i] === 1);
  leaf.grad = dy.holders === 1 && same ? hold(dy) : castTo(dy, dy.dtype, true, leaf.strides);
}

/** A queue of nodes, the latest first. */
class Ready {
  readonly #nodes: Node[] = [];

  add(node: Node): void {
    let at = this.#nodes.length;
    while (at > 0 && this.#nodes[at - 1].order > node.order) at--;
    this.#nodes.splice(at, 0, node);
  }

  take(): Node | undefined {
    return this.#nodes.pop();
  }
}
