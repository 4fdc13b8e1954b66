// Brings the kernels onto a GPU: compiled, or from the folder of what was compiled before, and loaded by the driver.
import { dirname, join } from "node:path";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { cachedKernels, nvrtcCandidates } from "./nvrtc.js";

/** Beside the engine that launches them. */
export const cubinFolder = (): string => join(dirname(resolveEngine().addon), "kernels");

/** Loads them on the GPU of this number; says why not where that is not possible. */
export function loadOnGpu(index: number): string | null {
  try {
    if (!native.launchesKernels()) return "this libtorch does not hand out its streams (2.11 and later do)";
    const { capability, driver } = native.gpuFacts(index);
    const libraries = nvrtcCandidates(resolveEngine().libDir);
    native.loadKernels(index, cachedKernels(cubinFolder(), capability, driver, libraries).cubins);
    return null;
  } catch (failure) {
    return (failure as Error).message;
  }
}
