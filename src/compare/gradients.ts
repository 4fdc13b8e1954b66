// All gradients of a step, as they come, written to a file or compared with those in it: head, blocks from the last to
// the first, embedding. Both are optimizers that change nothing, so a step gives them its gradients without any other
// interface. float32, in tiles; the maker closes it. Gradients of small models are compared in memory.
import { closeSync, openSync, readSync } from "node:fs";

import { writeAll } from "../checkpoint/files/disk.js";
import { assert } from "../errors.js";
import type { Optimizer } from "../optim/optimizer.js";
import { narrow, view } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { dtype, numel, readBytes, to, type Tensor } from "../torch/tensor.js";

const TILE_ELEMENTS = 1 << 20;

interface Witness {
  optimizer: Optimizer;
  close(): void;
}

export function writeGradients(path: string): Witness {
  const file = openSync(path, "w");
  return {
    optimizer: witness((values) => writeAll(file, new Uint8Array(values.buffer))),
    close: () => closeSync(file),
  };
}

/**
 * `relativeError` is the norm of the difference to the gradients in `path`, divided by the norm of those, summed in
 * float64.
 */
export function compareGradients(path: string): Witness & { relativeError(): number } {
  const file = openSync(path, "r");
  const { add, relativeError } = distance();
  const optimizer = witness((values) => {
    const stored = new Float32Array(values.length);
    const bytes = readSync(file, new Uint8Array(stored.buffer));
    assert(bytes === stored.byteLength, `${path} ends before the gradients do`);
    add(values, stored);
  });
  return { optimizer, relativeError, close: () => closeSync(file) };
}

/** `next` makes the optimizer of one step: the first step's gradients are kept, the second's are compared with them. */
export function memorizeGradients(): { next(): Optimizer; relativeError(): number } {
  const stored: Float32Array[] = [];
  const { add, relativeError } = distance();
  const [keepThem, compareThem] = [
    (values: Float32Array) => stored.push(values),
    (values: Float32Array) => add(values, stored[at++]),
  ];
  let at = 0;
  return { next: () => witness(stored.length === 0 ? keepThem : compareThem), relativeError };
}

function distance(): { add(values: Float32Array, stored: Float32Array): void; relativeError(): number } {
  let [difference, size] = [0, 0];
  const add = (values: Float32Array, stored: Float32Array): void => {
    for (let i = 0; i < values.length; i++) {
      difference += (values[i] - stored[i]) ** 2;
      size += stored[i] ** 2;
    }
  };
  return { add, relativeError: () => Math.sqrt(difference) / Math.sqrt(size) };
}

/** Shows every gradient to `look`, tile by tile. */
function witness(look: (values: Float32Array) => void): Optimizer {
  return {
    name: "witness",
    rule: () => ({
      layout: {},
      update: (_weight, gradient) => {
        assert(dtype(gradient) === "float32", "a gradient is not in float32");
        const elements = numel(gradient);
        for (let start = 0; start < elements; start += TILE_ELEMENTS) {
          look(valuesOf(gradient, start, Math.min(TILE_ELEMENTS, elements - start)));
        }
      },
    }),
  };
}

function valuesOf(gradient: Tensor, start: number, length: number): Float32Array {
  return scope(() => {
    const values = new Float32Array(length);
    readBytes(
      to(narrow(view(gradient, [numel(gradient)]), 0, start, length), "float32"),
      0,
      new Uint8Array(values.buffer),
    );
    return values;
  });
}
