// What the engine runs on: version, threads, devices, and which dtype the machine multiplies fastest.
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

import { UserError } from "../errors.js";
import { native } from "./binding.js";
import { startLibraries } from "./memory.js";
import type { DType } from "./tensor.js";
import { isCpu } from "./device-name.js";

export { isCpu };

export const engineInfo = native.engine;

/** 0 means all cores. libtorch and its BLAS get the same number; some builds start with one thread. */
export function setThreads(threads: number): void {
  native.setThreads(threads > 0 ? threads : availableParallelism());
}

/** Waits until the device has done all queued work; returns at once on the CPU. */
export function synchronize(device: string): void {
  if (!isCpu(device)) native.synchronize(device);
}

let flags: Set<string> | null = null;

/** Instruction sets of the CPU that decide whether bfloat16 products are fast, as Linux names them. */
const cpuFlags = (): Set<string> => (flags ??= readCpuFlags());

function readCpuFlags(): Set<string> {
  try {
    const line = /^flags\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"));
    return new Set(line?.[1].split(" "));
  } catch {
    return new Set();
  }
}

/**
 * bfloat16 if the device has hardware for its products (CUDA, AVX512-BF16, AMX); else float32, which is then several
 * times faster.
 */
export function fastestDtype(device: string): DType {
  if (!isCpu(device)) return "bfloat16";
  const flags = cpuFlags();
  return flags.has("avx512_bf16") || flags.has("amx_bf16") ? "bfloat16" : "float32";
}

/** Errors: UserError for a device on which this engine cannot compute. */
export function checkDevice(device: string): void {
  const parts = /^(cpu|cuda)(?::(\d+))?$/.exec(device);
  if (!parts) throw new UserError(`device: "${device}" is unknown (expected cpu, cuda or cuda:N).`);
  const { cudaDevices, version } = native.engine();
  if (parts[1] === "cuda" && Number(parts[2] ?? 0) >= cudaDevices) {
    throw new UserError(
      `device: ${device} is not there: libtorch ${version} sees ${cudaDevices} CUDA device(s). Set device to cpu, or see: revmoe doctor`,
    );
  }
}

/**
 * Checks a device and prepares it for use. From now on a GPU uses deterministic kernels, if libtorch has them; a CPU's
 * are always deterministic.
 */
export function useDevice(device: string): void {
  checkDevice(device);
  if (isCpu(device)) return;
  native.setDevice(device);
  native.setDeterministic(true);
  startLibraries(device);
}
