// Brings the kernels onto a GPU: compiles them, or takes them from the folder of earlier results; the driver loads
// them.
import { dirname, join } from "node:path";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { cachedKernels, nvrtcCandidates } from "./nvrtc.js";

/** The folder beside the engine that launches them. */
export const cubinFolder = (): string => join(dirname(resolveEngine().addon), "kernels");

/** Loads the kernels on GPU `index`; returns why not if that fails, else null. */
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
