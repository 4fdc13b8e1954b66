// Loads the native addon at its first use and states what it exports. The only file that touches it; the rest of this folder
// gives the exports their public form. Gradients are off until `withGrad` turns them on. For a time, another engine may take
// its place. Importing this file costs nothing and needs no libtorch.
import { createRequire } from "node:module";

import { beforeOpening, resolveEngine, setUpCommand } from "../../setup/libtorch.mjs";
import { UserError } from "../errors.js";
import { settleWaiting } from "./waiting.js";

export type Handle = number;
export type OpArgument = number | bigint | boolean | string | null | undefined | readonly OpArgument[];

export interface ExpertLimits {
  /** Rows of native/experts/expert_activation.hpp; `gated`: whether the first product has a gate beside up. */
  activations: { name: string; gated: boolean }[];
  /** With so many rows, a product by itself keeps all threads busy. */
  manyRows: number;
  /** Elements of gradients of weights that the kernel for all experts makes at a time. */
  groupedElements: number;
  /** Whether there is one. */
  groupedKernel: boolean;
  /** Whether a GPU adds products of 16 bits to float32 sums by itself. */
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
  /** Throws when a mapped file was cut short; operators and copies of bytes do so by themselves. */
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
  /** From now on figures of this GPU are without these bytes. */
  setLibraryBytes(index: number, bytes: number): void;
  cudaMemory(index: number, resetPeak: boolean): { liveBytes: number; peakBytes: number; reservedBytes: number } | null;
  engine(): { version: string; threads: number; cudaDevices: number; config: string };
  /** What decides how much memory the experts' operators take (native/experts/expert_groups.hpp, native/experts/grouped_products.hpp). */
  expertLimits(): ExpertLimits;
  /** How many rows an expert's products take where it has `rows` in a type of 16 bits on a CPU. */
  steadyRows(rows: number): number;
  setThreads(threads: number): void;
  setSeed(seed: number): void;
  setDeterministic(on: boolean): void;
  generatorState(device: string): Handle;
  setGeneratorState(device: string, state: Handle): void;
  synchronize(device: string): void;
  /** 13.0; nvrtc: a path, or a name for the loader. */
  nvrtcVersion(nvrtc: string): string;
  /** What it makes of each CUDA source, at the same time. */
  compileKernels(nvrtc: string, sources: string[], options: string[]): Uint8Array[];
  /** Which form of the kernels runs on this CPU: plain, avx2, avx512, or emulated (native/emulated). */
  kernelsOfCpu(): string;
  /** Whether this libtorch hands out the streams that kernels are launched on. */
  launchesKernels(): boolean;
  /** 90 for sm_90; the driver's CUDA version, 13000 for 13.0. */
  gpuFacts(index: number): { capability: number; driver: number };
  loadKernels(index: number, cubins: Uint8Array[]): void;
  /** See repeat.ts. */
  repeat(count: number, work: (round: number) => void): void;
  leavesOut(): boolean;
  hasElements(): boolean;
  /** From now on SIGINT, SIGTERM and SIGHUP ask for a stop, see torch/signals.ts. */
  listenForStop(fd: number, acknowledged: string, left: string): void;
  setStopWords(acknowledged: string, left: string): void;
  /** The signal that asked; 0 for none. */
  stopSignal(): number;
  forgetStop(): void;
  /** Whether this libtorch brings the processes of a group together; without, the functions below are missing. See torch/comm/group.ts. */
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
  /** Whether this process has the store in which they do. */
  serves: boolean;
  /** In front of every key of the store. */
  prefix: string;
  /** That any call may take. */
  seconds: number;
  /** Tensors in main memory go through copies, as those of a GPU do: for tests. */
  copiesAll?: boolean;
}

/** What the addon leaves to this side. */
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
  // The threads of an OpenBLAS, which wait beside those of OpenMP: sleep after 2^16 cycles and not 2^26.
  process.env.OPENBLAS_THREAD_TIMEOUT ??= "16";
  // cuBLAS gives the same bits every time only with a workspace of a given size; this is its own on recent cards.
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

/** Every export, so that what calls them can be made before there is an engine. */
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
/** The addon from its first use on, or what takes its place for a time. */
let engine: Native | null = null;

function start(): Native {
  addon = { ...load(), ...HERE };
  addon.setGradMode(false);
  return (engine = addon);
}

/** Runs `fn` with the engine that `make` makes beside the real one; tensors of either are unknown to the other. */
export function withEngine<Result>(make: (real: Native) => Native, fn: () => Result): Result {
  const before = engine;
  engine = make(addon ?? start());
  try {
    return fn();
  } finally {
    engine = before ?? addon;
  }
}

/** An operator of whatever engine there is at a call, looked up once for each. */
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

/** A mapped file that was cut short (native/io/cut_files.cpp) as a UserError; any other failure as it is. */
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

/** The same for what is no operator. */
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

/** What the engine of the moment exports. Nothing is loaded before the first call. */
export const native = {
  op: operator,
  ...Object.fromEntries(Object.keys(EXPORTS).map((name) => [name, plain(name as keyof Native)])),
} as unknown as Native;
