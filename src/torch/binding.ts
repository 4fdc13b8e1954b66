// Loads the native addon at its first use and declares what it exports. The only file that touches it; the rest of this
// folder gives the exports their public form. Gradients are off until `withGrad` turns them on. `withEngine` puts
// another engine in its place for a time. Importing this file costs nothing and needs no libtorch.
import { createRequire } from "node:module";

import { beforeOpening, resolveEngine, setUpCommand } from "../../setup/libtorch.mjs";
import { UserError } from "../errors.js";
import { settleWaiting } from "./waiting.js";

export type Handle = number;
export type OpArgument = number | bigint | boolean | string | null | undefined | readonly OpArgument[];

export interface ExpertLimits {
  /** Rows of native/experts/expert_activation.hpp; `gated`: whether the first product gives a gate beside up. */
  activations: { name: string; gated: boolean }[];
  /** With at least this many rows, a single product keeps all threads busy. */
  manyRows: number;
  /** Number of elements of weights' gradients that the kernel for all experts makes at a time. */
  groupedElements: number;
  /** Whether there is a kernel for all experts. */
  groupedKernel: boolean;
  /** Whether a GPU can add products of 16 bits directly to float32 sums. */
  wideSums: boolean;
}

export interface Native {
  op(name: string): (...args: OpArgument[]) => unknown;
  hasOp(name: string): boolean;
  schema(name: string): string | null;
  free(...handles: Handle[]): void;
  isAlive(handle: Handle): boolean;
  keep(handle: Handle): void;
  scopeOpen(): void;
  scopeClose(kept: Handle[]): void;
  dtype(handle: Handle): string;
  device(handle: Handle): string;
  byteSize(handle: Handle): number;
  sizes(handle: Handle): number[];
  readBytes(handle: Handle, byteOffset: number, into: Uint8Array): void;
  writeBytes(handle: Handle, byteOffset: number, from: Uint8Array): void;
  mapFile(path: string): Handle;
  mapShared(file: number, bytes: number, allocate: boolean, path: string): Handle;
  /** Throws if a mapped file was cut short; operators and copies of bytes check this themselves. */
  checkFiles(): void;
  readAhead(mapping: Handle): number;
  writeBack(file: number): number;
  dropPages(mapping: Handle, file: number): number;
  waitForPages(reader: boolean, ticket: number): void;
  copyAsync(to: Handle, from: Handle): void;
  awaitCopies(device: string, out: boolean): void;
  setGradMode(on: boolean): boolean;
  requireGrad(handle: Handle, on: boolean): void;
  setGrad(leaf: Handle, gradient: Handle | null): void;
  takeGrad(leaf: Handle): Handle | null;
  backward(outputs: Handle[], gradients: Handle[]): void;
  grad(outputs: Handle[], inputs: Handle[], gradients: Handle[]): (Handle | null)[];
  memory(): {
    handles: number;
    blocks: number;
    liveBytes: number;
    peakBytes: number;
    mappedBytes: number;
    spareBytes: number;
  };
  resetPeak(): void;
  setMemoryLimit(bytes: number): void;
  /** From now on the memory figures of this GPU exclude these bytes. */
  setLibraryBytes(index: number, bytes: number): void;
  cudaMemory(index: number, resetPeak: boolean): { liveBytes: number; peakBytes: number; reservedBytes: number } | null;
  engine(): { version: string; threads: number; cudaDevices: number; config: string };
  /** The numbers that decide how much memory the experts' operators take (expert_groups.hpp, grouped_products.hpp). */
  expertLimits(): ExpertLimits;
  /** For how many rows an expert's products are computed if it has `rows` of a 16-bit type on a CPU. */
  steadyRows(rows: number): number;
  setThreads(threads: number): void;
  setSeed(seed: number): void;
  setDeterministic(on: boolean): void;
  generatorState(device: string): Handle;
  setGeneratorState(device: string, state: Handle): void;
  /** Makes a GPU the current one. */
  setDevice(device: string): void;
  synchronize(device: string): void;
  /** Such as 13.0; `nvrtc` is a path, or a name for the loader. */
  nvrtcVersion(nvrtc: string): string;
  /** Compiles each CUDA source, all at the same time. */
  compileKernels(nvrtc: string, sources: string[], options: string[]): Uint8Array[];
  /** Which form of the kernels runs on this CPU: plain, avx2, avx512, or emulated (native/emulated). */
  kernelsOfCpu(): string;
  /** Whether this libtorch gives access to the streams on which kernels are launched. */
  launchesKernels(): boolean;
  /** `capability` is 90 for sm_90; `driver` is the driver's CUDA version, 13000 for 13.0. */
  gpuFacts(index: number): { capability: number; driver: number };
  loadKernels(index: number, cubins: Uint8Array[]): void;
  /** See repeat.ts. */
  repeat(count: number, work: (round: number) => void): void;
  leavesOut(): boolean;
  hasElements(): boolean;
  /** From now on SIGINT, SIGTERM and SIGHUP ask for a stop (see signals.ts). */
  listenForStop(fd: number, acknowledged: string, left: string): void;
  setStopWords(acknowledged: string, left: string): void;
  /** The signal that asked for a stop; 0: none. */
  stopSignal(): number;
  forgetStop(): void;
  /**
   * Whether this libtorch can connect the processes of a group; if not, the functions below are missing. See
   * torch/comm/group.ts.
   */
  hasGroups(): boolean;
  openGroup(place: GroupPlace): void;
  gatherBytes(own: Uint8Array): Uint8Array[];
  sum(tensor: Handle): void;
  startSend(tensor: Handle, to: readonly number[], tag: number): number;
  awaitTicket(ticket: number): void;
  dropTicket(ticket: number): void;
  startReceive(into: Handle, from: number, tag: number): number;
  broadcast(tensor: Handle, from: number): void;
  closeGroup(): void;
  ncclFacts(library: string): { version: number; movesMainMemory: boolean };
  ncclId(library: string): Uint8Array;
  openLane(place: object): number;
  roundSend(lane: number, tensor: Handle, to: number): number;
  roundReceive(lane: number, into: Handle, from: number): number;
  startRound(lane: number): void;
  awaitRound(lane: number, round: number): void;
  closeLane(lane: number): void;
}

/** Where the ranks of a group meet. */
export interface GroupPlace {
  rank: number;
  world: number;
  host: string;
  port: number;
  /** Whether this process serves the store through which they meet. */
  serves: boolean;
  /** Stands in front of every key of the store. */
  prefix: string;
  /** The longest time that any call may take. */
  seconds: number;
  /** For tests: tensors in main memory go through copies, as a GPU's do. */
  copiesAll?: boolean;
}

/** The exports that are implemented here and not in the addon. */
const HERE: Pick<Native, "repeat" | "leavesOut" | "hasElements"> = {
  repeat: (count, work) => {
    for (let round = 0; round < count; round++) work(round);
  },
  leavesOut: () => false,
  hasElements: () => true,
};

function load(): Omit<Native, keyof typeof HERE> {
  settleWaiting();
  for (const [name, value] of Object.entries(beforeOpening)) process.env[name] ??= value;
  // Threads of OpenBLAS, which wait beside those of OpenMP, sleep after 2^16 cycles and not after 2^26.
  process.env.OPENBLAS_THREAD_TIMEOUT ??= "16";
  // cuBLAS is deterministic only with a workspace of a fixed size; this is its default size on recent cards.
  process.env.CUBLAS_WORKSPACE_CONFIG ??= ":4096:8";
  let addon: string;
  try {
    addon = resolveEngine().addon;
  } catch (failure) {
    throw new UserError((failure as Error).message);
  }
  try {
    return createRequire(import.meta.url)(addon) as Omit<Native, keyof typeof HERE>;
  } catch (failure) {
    if ((failure as { code?: string }).code === "ENGINE_IN_USE") throw new UserError((failure as Error).message);
    throw new UserError(`${addon}: the engine cannot be loaded: ${(failure as Error).message}. Run: ${setUpCommand}`);
  }
}

/** The names of all exports, so that functions can be made before there is an engine. */
const EXPORTS: Record<Exclude<keyof Native, "op">, true> = {
  hasOp: true,
  schema: true,
  free: true,
  isAlive: true,
  keep: true,
  scopeOpen: true,
  scopeClose: true,
  dtype: true,
  device: true,
  byteSize: true,
  sizes: true,
  readBytes: true,
  writeBytes: true,
  mapFile: true,
  mapShared: true,
  checkFiles: true,
  readAhead: true,
  writeBack: true,
  dropPages: true,
  waitForPages: true,
  copyAsync: true,
  awaitCopies: true,
  setGradMode: true,
  requireGrad: true,
  setGrad: true,
  takeGrad: true,
  backward: true,
  grad: true,
  memory: true,
  resetPeak: true,
  setMemoryLimit: true,
  setLibraryBytes: true,
  cudaMemory: true,
  engine: true,
  expertLimits: true,
  steadyRows: true,
  setThreads: true,
  setSeed: true,
  setDeterministic: true,
  generatorState: true,
  setGeneratorState: true,
  setDevice: true,
  synchronize: true,
  nvrtcVersion: true,
  compileKernels: true,
  kernelsOfCpu: true,
  launchesKernels: true,
  gpuFacts: true,
  loadKernels: true,
  repeat: true,
  leavesOut: true,
  hasElements: true,
  listenForStop: true,
  setStopWords: true,
  stopSignal: true,
  forgetStop: true,
  hasGroups: true,
  openGroup: true,
  gatherBytes: true,
  sum: true,
  startSend: true,
  awaitTicket: true,
  dropTicket: true,
  startReceive: true,
  broadcast: true,
  closeGroup: true,
  ncclFacts: true,
  ncclId: true,
  openLane: true,
  roundSend: true,
  roundReceive: true,
  startRound: true,
  awaitRound: true,
  closeLane: true,
};

let addon: Native | null = null;
/** The addon from its first use on, or the engine that replaces it for a time. */
let engine: Native | null = null;

function start(): Native {
  addon = { ...load(), ...HERE };
  addon.setGradMode(false);
  return (engine = addon);
}

/** Runs `fn` with the engine that `make` makes from the real one; tensors of one engine are unknown to the other. */
export function withEngine<Result>(make: (real: Native) => Native, fn: () => Result): Result {
  const before = engine;
  engine = make(addon ?? start());
  try {
    return fn();
  } finally {
    engine = before ?? addon;
  }
}

/** Calls an operator of the present engine; it is looked up once for each engine. */
function operator(name: string): (...args: OpArgument[]) => unknown {
  let of: Native | null = null;
  let call: ReturnType<Native["op"]>;
  return (...args) => {
    if (of === null || of !== engine) {
      of = engine ?? start();
      call = of.op(name);
    }
    try {
      return call(...args);
    } catch (failure) {
      throw inWords(failure);
    }
  };
}

/**
 * Turns the error of a mapped file that was cut short (native/io/cut_files.cpp) into a UserError; returns any other
 * failure unchanged.
 */
function inWords(failure: unknown): unknown {
  const { code, path = "" } = failure as { code?: string; path?: string };
  return code === "FILE_CUT_SHORT" ? fileCutShort(path) : failure;
}

export const fileCutShort = (path: string): UserError =>
  new UserError(
    `${path}: was cut short or could not be read while it was used (expected the same file to the end). ` +
      "Nothing that was made of it since is saved. Check the disk and what else writes there, restore the file, then start again.",
  );

type Call = (...args: unknown[]) => unknown;

/** Calls any other export in the same way. */
function plain(name: keyof Native): Call {
  let of: Native | null = null;
  let call: Call;
  return (...args) => {
    if (of === null || of !== engine) {
      of = engine ?? start();
      call = of[name] as Call;
    }
    try {
      return call(...args);
    } catch (failure) {
      throw inWords(failure);
    }
  };
}

/** The exports of the present engine. Nothing is loaded before the first call. */
export const native = {
  op: operator,
  ...Object.fromEntries(Object.keys(EXPORTS).map((name) => [name, plain(name as keyof Native)])),
} as unknown as Native;
