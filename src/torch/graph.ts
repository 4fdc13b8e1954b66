// A function recorded once and differentiated once: its graph owns the tensors it needs until the way back, or `freeGraph`.
// A custom function cuts the graph in two: what it computes is outside, and its gradient is our own code, called between
// the part behind it and the part before it. All on the calling thread, on every device.
import { assert } from "../errors.js";
import { native } from "./binding.js";
import { backward, leaf, takeGrad, withGrad } from "./autograd.js";
import { free, isAlive, keep, scope } from "./scope.js";
import type { Tensor } from "./tensor.js";

interface Cut {
  inputs: Tensor[];
  /** A leaf: the part behind leaves its gradient here. */
  output: Tensor;
  gradient: (dOutput: Tensor) => Tensor[];
}

export interface Graph {
  /** A leaf on the input's storage. */
  x: Tensor;
  y: Tensor;
  cuts: Cut[];
}

let recording: Cut[] | null = null;

/** y = fn(x) with its graph. */
export function record(input: Tensor, fn: (x: Tensor) => Tensor): Graph {
  const before = recording;
  const cuts: Cut[] = [];
  recording = cuts;
  try {
    const { x, y } = scope(() => {
      const x = leaf(input);
      // A scope of its own, so that what autograd does not keep is freed before the way back and what it keeps along it.
      return { x, y: scope(() => withGrad(() => fn(x))) };
    });
    return { x: keep(x), y: keep(y), cuts };
  } catch (failure) {
    freeTensors(cuts.flatMap(({ inputs, output }) => [...inputs, output]));
    throw failure;
  } finally {
    recording = before;
  }
}

/** The gradient of x from that of y; leaves on the way get theirs. Consumes the graph. */
export function backwardThrough(graph: Graph, dy: Tensor): Tensor {
  try {
    return scope(() => {
      backward([graph.y], [dy]);
      while (graph.cuts.length > 0) {
        const cut = graph.cuts.at(-1) as Cut;
        scope(() => throughCut(cut));
        graph.cuts.pop();
      }
      const dx = takeGrad(graph.x);
      assert(dx !== null, "a function does not depend on its input");
      return dx;
    });
  } finally {
    freeGraph(graph);
  }
}

function throughCut({ inputs, output, gradient }: Cut): void {
  const dOutput = takeGrad(output);
  assert(dOutput !== null, "what a custom function returned was not used");
  free(output);
  const dInputs = scope(() => gradient(dOutput));
  free(dOutput);
  backward(inputs, dInputs);
  free(...inputs);
}

export function freeGraph({ x, y, cuts }: Graph): void {
  freeTensors([x, y, ...cuts.flatMap(({ inputs, output }) => [...inputs, output])]);
}

const freeTensors = (tensors: Tensor[]): void => free(...new Set(tensors.filter(isAlive)));

/**
 * forward(), whose gradient with respect to `inputs` is `gradient` of that of its result; all inputs have one. Where a graph is recorded, the
 * graph owns the inputs and the result from now on, and nothing else in it may use the inputs: what lies before them is
 * differentiated when `gradient` has been.
 */
export function customFunction(inputs: Tensor[], forward: () => Tensor, gradient: (dOutput: Tensor) => Tensor[]): Tensor {
  if (recording === null) return forward();
  const before = native.setGradMode(false);
  try {
    const output = keep(leaf(scope(forward)));
    recording.push({ inputs: inputs.map(keep), output, gradient });
    return output;
  } finally {
    native.setGradMode(before);
  }
}
