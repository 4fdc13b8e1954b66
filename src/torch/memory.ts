// The ledger: live bytes, and the most live bytes since the last reset, in bytes as asked of the allocator. CPU figures
// are exact and the same on every machine. Mapped files count separately: the system may drop their pages.
import { backward, leaf, withGrad } from "./autograd.js";
import { native } from "./binding.js";
import { linear, mm, mulScalar } from "./ops.js";
import { scope } from "./scope.js";
import { zeros } from "./tensor.js";
import { deviceIndex, isCpu } from "./device-name.js";

export interface Ledger {
  /** Number of live handles that JavaScript can name. */
  tensors: number;
  /** Number of live allocations, including those held only by a graph. */
  blocks: number;
  liveBytes: number;
  peakBytes: number;
  mappedBytes: number;
}

const started = new Set<number>();

/**
 * Lets the libraries of a GPU allocate the workspace that they keep (cuBLAS: for each thread that computes), so that no
 * step is charged for it.
 */
export function startLibraries(device: string): void {
  const index = deviceIndex(device);
  if (started.has(index)) return;
  started.add(index);
  const before = native.cudaMemory(index, false)?.liveBytes ?? 0;
  scope(() => {
    const x = zeros([64, 64], "bfloat16", device);
    const weight = leaf(x);
    // The product with a number comes last, so that the backward pass finds the GPU at work.
    const y = withGrad(() => mulScalar(linear(mm(x, weight), weight, zeros([64], "bfloat16", device)), 2));
    backward([y], [x]);
  });
  native.setLibraryBytes(index, (native.cudaMemory(index, false)?.liveBytes ?? before) - before);
}

/**
 * Figures of one device: "cpu", or "cuda:0" without what its libraries hold (from libtorch's caching allocator, 2.9 and
 * later; else zero).
 */
export function ledger(device = "cpu"): Ledger {
  const cpu = native.memory();
  if (isCpu(device)) {
    return {
      tensors: cpu.handles,
      blocks: cpu.blocks,
      liveBytes: cpu.liveBytes,
      peakBytes: cpu.peakBytes,
      mappedBytes: cpu.mappedBytes,
    };
  }
  const cuda = native.cudaMemory(deviceIndex(device), false);
  return {
    tensors: cpu.handles,
    blocks: cpu.blocks,
    mappedBytes: cpu.mappedBytes,
    liveBytes: cuda?.liveBytes ?? 0,
    peakBytes: cuda?.peakBytes ?? 0,
  };
}

/** Starts a new peak at the present live bytes. */
export function resetPeak(device = "cpu"): void {
  native.resetPeak();
  if (!isCpu(device)) native.cudaMemory(deviceIndex(device), true);
}

export const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** From now on, a CPU allocation that would bring the live bytes above `bytes` fails with code OUT_OF_MEMORY. */
export const limitMemory = (bytes: number): void => native.setMemoryLimit(bytes);

/**
 * Main memory that the process uses beside its tensors: Node, the engine and this program at present, and freed blocks
 * that the allocator may keep. What a GPU's own libraries use is not known.
 */
export const processBytes = (): number =>
  process.memoryUsage().rss - native.memory().liveBytes + native.memory().spareBytes;
