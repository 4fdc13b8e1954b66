// Facts of this machine for `doctor`: engine, processor, memory, disk. It only collects them; doctor words them. If the
// engine cannot be loaded, all other facts are still collected.
import { readFileSync, statfsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { basename } from "node:path";

import { type Engine, hasNvidiaDriver, resolveEngine, searchLibtorch } from "../../../setup/libtorch.mjs";
import { hasGroups } from "../../torch/comm/group.js";
import { findNccl } from "../../torch/comm/nccl.js";
import { engineInfo, setThreads } from "../../torch/device.js";
import { productFlops } from "../../plan/ways/product-speed.js";
import { type KernelFacts, kernelFacts } from "../../torch/kernels/facts.js";

export interface EngineFacts {
  libtorch: Pick<Engine, "version" | "source" | "root">;
  addon: string;
  builtAt: string;
  threads: number;
  cudaDevices: number;
  /** Whether libtorch's CUDA libraries are linked; `cudaRefused` says why not, if it has them. */
  cuda: boolean;
  cudaRefused: string | null;
  /** The library that computes float32 products. */
  blas: string;
  /** Whether several processes can train together. */
  groups: boolean;
  /** What can carry tensors between cards. */
  nccl: { library: string; version: string } | null;
  /** The widest instruction set that libtorch's own kernels use. */
  libtorchKernels: string;
  /** The addon's kernels: on which devices they run, and what compiles them. */
  kernels: KernelFacts;
  /** Speed of matrix products on the CPU, in 1e9 multiplications and additions per second; 0: too slow to wait for. */
  float32Gflops: number;
  bfloat16Gflops: number;
}

export interface Facts {
  node: string;
  processor: string;
  cores: number;
  /** Relevant instruction sets, and whether the processor has each. */
  instructions: Record<string, boolean>;
  nvidiaDriver: boolean;
  memory: { totalBytes: number; availableBytes: number };
  disk: { folder: string; availableBytes: number };
  engine: EngineFacts | null;
  /** Why there is no engine. */
  engineFailure: string | null;
  /** The libtorch that a set-up would use now; null if there is none. */
  found: Pick<Engine, "version" | "source" | "root"> | null;
  /** Why the chosen libtorch cannot be used: LIBTORCH is wrong, or the remembered one is gone. */
  foundFailure: string | null;
}

const INSTRUCTIONS = { AVX2: "avx2", AVX512: "avx512f", "AVX512-BF16": "avx512_bf16", AMX: "amx_bf16" };

/** Takes a second or two, since it loads the engine and multiplies matrices. */
export async function gatherFacts(folder = process.cwd()): Promise<Facts> {
  const cpuinfo = readText("/proc/cpuinfo");
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1].split(" "));
  const disk = statfsSync(folder);
  let engine: EngineFacts | null = null;
  let engineFailure: string | null = null;
  try {
    engine = await engineFacts();
  } catch (failure) {
    engineFailure = (failure as Error).message;
  }
  return {
    node: process.versions.node,
    processor: cpus()[0]?.model.trim() || process.arch,
    cores: availableParallelism(),
    instructions: Object.fromEntries(Object.entries(INSTRUCTIONS).map(([name, flag]) => [name, flags.has(flag)])),
    nvidiaDriver: hasNvidiaDriver(),
    // A container may be allowed less memory than the machine has.
    memory: {
      totalBytes: Math.min(totalmem(), process.constrainedMemory() || totalmem()),
      availableBytes: process.availableMemory(),
    },
    disk: { folder, availableBytes: disk.bavail * disk.bsize },
    engine,
    engineFailure,
    ...foundNow(),
  };
}

async function engineFacts(): Promise<EngineFacts> {
  const built = resolveEngine();
  setThreads(0);
  const { cudaDevices, threads, config } = engineInfo();
  return {
    libtorch: { version: built.version, source: built.source, root: built.root },
    addon: built.addon,
    builtAt: built.builtAt,
    threads,
    cudaDevices,
    cuda: built.cuda,
    cudaRefused: built.cudaRefused,
    groups: hasGroups(),
    nccl: ncclFound(),
    blas: blasOf(config, readText("/proc/self/maps")),
    libtorchKernels: /CPU capability usage: (.*)/.exec(config)?.[1].trim() ?? "unknown",
    kernels: kernelFacts(cudaDevices),
    float32Gflops: productFlops("float32") / 1e9,
    bfloat16Gflops: productFlops("bfloat16") / 1e9,
  };
}

function ncclFound(): EngineFacts["nccl"] {
  try {
    const { library, version } = findNccl();
    return { library, version };
  } catch {
    return null;
  }
}

/** The name of the BLAS, from the libraries that this process has loaded, else from libtorch's description. */
export function blasOf(config: string, maps: string): string {
  const loaded = maps.split("\n").map((line) => basename(line.split(/\s+/)[5] ?? ""));
  const fast = loaded.find((name) => /^lib(openblas|mkl|blis|atlas)/.test(name));
  if (fast) return fast.startsWith("libopenblas") ? `OpenBLAS (${fast})` : fast;
  const builtIn = /BLAS_INFO=(\w+)/.exec(config)?.[1];
  if (builtIn && builtIn !== "generic") return `${builtIn} (in libtorch)`;
  return loaded.some((name) => name.startsWith("libblas")) ? "reference BLAS (slow)" : "none known";
}

function foundNow(): Pick<Facts, "found" | "foundFailure"> {
  try {
    const libtorch = searchLibtorch();
    const found = libtorch ? { version: libtorch.version, source: libtorch.source, root: libtorch.root } : null;
    return { found, foundFailure: null };
  } catch (failure) {
    return { found: null, foundFailure: (failure as Error).message };
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
