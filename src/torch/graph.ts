// A function that is recorded once and differentiated once: its graph owns the tensors it needs until the backward
// pass, or `freeGraph`. A custom function cuts the graph in two: its computation is outside, and its gradient is our
// own code, called between the part after it and the part before it. A root is a value inside the graph with its own
// loss, which is differentiated together with the result. All runs on the calling thread, on every device.
import { assert } from "../errors.js";
import { native } from "./binding.js";
import { backward, detach, leaf, takeGrad, withGrad } from "./autograd.js";
import { add } from "./ops/arithmetic.js";
import { currentSpan, during } from "./span.js";
import { free, isAlive, keep, scope } from "./scope.js";
import { device, dtype, shape, type Tensor, zeros } from "./tensor.js";

interface Cut {
  inputs: Tensor[];
  /** A leaf, on which the part after the cut leaves its gradient. */
  output: Tensor;
  saved: Tensor[];
  gradient: Gradient;
}

/** Computes the gradients of a custom function's inputs. It may free its arguments as soon as they are not needed. */
type Gradient = (dOutput: Tensor, output: Tensor, saved: Tensor[]) => Tensor[];

interface Root {
  output: Tensor;
  gradient: () => Tensor;
}

/** What a recording collects in addition to the engine's own graph. */
interface Recording {
  cuts: Cut[];
  roots: Root[];
}

export interface Graph extends Recording {
  /** Leaves on the storage of the inputs. */
  inputs: Tensor[];
  y: Tensor;
  /** The span in which it was recorded. */
  span: string;
}

let recording: Recording | null = null;

/** Whether what is computed now becomes part of a graph that `record` makes. */
export const isRecorded = (): boolean => recording !== null;

/** y = fn(...inputs) with its graph. */
export function record(inputs: Tensor[], fn: (...inputs: Tensor[]) => Tensor): Graph {
  const before = recording;
  const gathered: Recording = { cuts: [], roots: [] };
  recording = gathered;
  try {
    const { leaves, y } = scope(() => {
      const leaves = inputs.map((input) => leaf(input));
      // An own scope, so that what autograd does not keep is freed before the backward pass, and what it keeps is freed
      // during it.
      return { leaves, y: scope(() => withGrad(() => fn(...leaves))) };
    });
    return { inputs: leaves.map(keep), y: keep(y), span: currentSpan(), ...gathered };
  } catch (failure) {
    freeTensors(tensorsOf(gathered));
    throw failure;
  } finally {
    recording = before;
  }
}

/**
 * The gradients of the inputs from that of y; null for an input that y does not depend on. Leaves inside the graph get
 * theirs. Consumes the graph.
 */
export function backwardThrough(graph: Graph, dy: Tensor): (Tensor | null)[] {
  try {
    return during(`${graph.span}, backward`, () =>
      scope(() => {
        scope(() =>
          backward(
            [graph.y, ...graph.roots.map(({ output }) => output)],
            [dy, ...graph.roots.map(({ gradient }) => gradient())],
          ),
        );
        while (graph.cuts.length > 0) {
          const cut = graph.cuts.at(-1) as Cut;
          scope(() => throughCut(cut));
          graph.cuts.pop();
        }
        return graph.inputs.map(takeGrad);
      }),
    );
  } finally {
    freeGraph(graph);
  }
}

function throughCut({ inputs, output, saved, gradient }: Cut): void {
  const dOutput = takeGrad(output);
  assert(dOutput !== null, "what a custom function returned was not used");
  const dInputs = scope(() => gradient(dOutput, output, saved));
  freeTensors([dOutput, output, ...saved]);
  backward(inputs, dInputs);
  free(...inputs);
}

export function freeGraph(graph: Graph): void {
  freeTensors([...graph.inputs, graph.y, ...tensorsOf(graph)]);
}

const tensorsOf = ({ cuts, roots }: Recording): Tensor[] => [
  ...cuts.flatMap(({ inputs, output, saved }) => [...inputs, output, ...saved]),
  ...roots.map(({ output }) => output),
];

const freeTensors = (tensors: Tensor[]): void => free(...new Set(tensors.filter(isAlive)));

/**
 * The output of forward(). Its gradients with respect to `inputs`, all of which have one, are given by `gradient`, from
 * the output, its gradient, and what `forward` saved. If a graph is recorded, it owns inputs, output and saved tensors
 * from now on, and nothing else in it may use the inputs: what lies before them is differentiated after `gradient`.
 */
export function customFunction(
  inputs: Tensor[],
  forward: () => { output: Tensor; saved: Tensor[] },
  gradient: Gradient,
): Tensor {
  if (recording === null) return scope(() => forward().output);
  const before = native.setGradMode(false);
  try {
    const { output, saved } = scope(() => {
      const made = forward();
      return { output: leaf(made.output), saved: made.saved };
    });
    recording.cuts.push({ inputs: inputs.map(keep), output: keep(output), saved: saved.map(keep), gradient });
    return output;
  } finally {
    native.setGradMode(before);
  }
}

/**
 * The same numbers, for use by several custom functions and the code around them: their gradients are added up here
 * before the part that made `x` is differentiated. Without it, the first of them would consume what they share.
 */
export const junction = (x: Tensor): Tensor =>
  customFunction(
    [x],
    () => ({ output: x, saved: [] }),
    (dx) => [detach(dx)],
  );

/** The same numbers as an input that can have a gradient, which a custom function needs; frozen weights have none. */
export const ownInput = (t: Tensor): Tensor => add(t, leaf(zeros(shape(t), dtype(t), device(t))));

/**
 * If a graph is recorded, differentiates a loss on `output` with it; the backward pass calls `gradient`. The graph owns
 * the output from now on. No custom function may come after it.
 */
export function addRoot(output: Tensor, gradient: () => Tensor): void {
  recording?.roots.push({ output: keep(output), gradient });
}
