// The peak of a step as a sum of terms, so that a reader sees what takes the memory. All figures but the last are
// counted; the working set is what remains: a block's activations, the loss tile, the optimizer's tile.
import { formatBytes } from "../format.js";
import type { MemoryTerms } from "../metrics/record.js";
import { weightBytes } from "../model/model.js";
import { ledger } from "../torch/memory.js";
import type { Network } from "../network/network.js";
import type { OptimizerStates } from "./optimizer-states.js";
import type { StepResult } from "./step.js";

export type { MemoryTerms };

/** Terms of the peak since the ledger was last reset. Call it after a step. */
export function memoryTerms(network: Network, states: OptimizerStates, result: StepResult): MemoryTerms {
  const { peakBytes } = ledger(network.device);
  const { gradientBytes, streamBytes, keptBytes, teacherBytes } = result;
  // A store that holds weights and states elsewhere says what of them is on the device.
  const own = network.store.held ?? { weightBytes: weightBytes(network.model), stateBytes: states.bytes };
  const terms = { ...own, gradientBytes, streamBytes, keptBytes, teacherBytes };
  return { ...terms, workBytes: peakBytes - Object.values(terms).reduce((sum, bytes) => sum + bytes, 0), peakBytes };
}

const TERM_NAMES: [keyof MemoryTerms, string][] = [
  ["weightBytes", "weights"],
  ["stateBytes", "optimizer state"],
  ["gradientBytes", "gradient"],
  ["streamBytes", "streams"],
  ["keptBytes", "kept for the backward pass"],
  ["teacherBytes", "teacher"],
  ["workBytes", "working set"],
];

/** "258 MiB = 15.5 MiB weights + ..." */
export function describeMemory(terms: MemoryTerms): string {
  const parts = TERM_NAMES.filter(([key]) => terms[key] > 0).map(([key, name]) => `${formatBytes(terms[key])} ${name}`);
  return `${formatBytes(terms.peakBytes)} = ${parts.join(" + ")}`;
}
