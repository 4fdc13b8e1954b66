// Where kernels run on this machine and what compiles them, as `doctor` shows it. Asking brings them onto each GPU, as the first step of a run
// would: seconds where no cubin is kept yet.
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { cubinFolder } from "./gpu.js";
import { wantsReference, whyNoKernels } from "./kernels.js";
import { findNvrtc, nvrtcCandidates } from "./nvrtc.js";

export interface KernelFacts {
  /** For each device: the form that runs there (plain, avx2, avx512 or emulated on a CPU, loaded on a GPU), or why none does. */
  devices: { device: string; form: string | null; whyNot: string | null }[];
  /** Null where none is found; GPUs need it, or a cubin that it made. */
  nvrtc: { library: string; version: string } | null;
  nvrtcFailure: string | null;
  /** What NVRTC compiled and is kept. */
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
