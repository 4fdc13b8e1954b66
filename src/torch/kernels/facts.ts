// Where kernels run on this machine and what compiles them, as `doctor` shows it. Asking loads them on each GPU, as a
// run's first step would; this takes seconds if no cubin is kept yet.
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { cubinFolder } from "./gpu.js";
import { wantsReference, whyNoKernels } from "./kernels.js";
import { findNvrtc, nvrtcCandidates } from "./nvrtc.js";

export interface KernelFacts {
  /**
   * For each device: the form of the kernels there (plain, avx2, avx512 or emulated on a CPU, loaded on a GPU), or why
   * there is none.
   */
  devices: { device: string; form: string | null; whyNot: string | null }[];
  /** Null if none is found; GPUs need it, or a cubin that it made earlier. */
  nvrtc: { library: string; version: string } | null;
  nvrtcFailure: string | null;
  /** The kept results of NVRTC. */
  cubins: { folder: string; files: number; bytes: number };
}

export function kernelFacts(cudaDevices: number): KernelFacts {
  const onGpus = Array.from({ length: cudaDevices }, (_, index) => {
    const device = `cuda:${index}`;
    const whyNot = whyNoKernels(device);
    return { device, form: whyNot === null ? "loaded" : null, whyNot };
  });
  const onCpu = wantsReference()
    ? { device: "cpu", form: null, whyNot: whyNoKernels("cpu") }
    : { device: "cpu", form: native.kernelsOfCpu(), whyNot: null };
  return { devices: [onCpu, ...onGpus], ...nvrtc(), cubins: cubins() };
}

function nvrtc(): Pick<KernelFacts, "nvrtc" | "nvrtcFailure"> {
  try {
    return { nvrtc: findNvrtc(nvrtcCandidates(resolveEngine().libDir)), nvrtcFailure: null };
  } catch (failure) {
    return { nvrtc: null, nvrtcFailure: (failure as Error).message };
  }
}

function cubins(folder = cubinFolder()): KernelFacts["cubins"] {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".cubin")) : [];
  const bytes = names.map((name) => statSync(join(folder, name)).size);
  return { folder, files: names.length, bytes: bytes.reduce((sum, size) => sum + size, 0) };
}
