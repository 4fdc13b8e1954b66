// Loads the native addon and states what it exports. The only file that touches it; the rest of this folder gives the
// exports their public form. Gradients are off until `withGrad` turns them on. For a time, another engine may take its place.
import { createRequire } from "node:module";

import { resolveEngine } from "../../setup/libtorch.mjs";
import { UserError } from "../errors.js";
import { settleWaiting } from "./waiting.js";

export type Handle = number;
export type OpArgument = number | bigint | boolean | string | null | undefined | readonly OpArgument[];

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
  mapShared(file: number, bytes: number, allocate: boolean): Handle;
  readAhead(mapping: Handle): number;
  writeBack(file: number): number;
  dropPages(mapping: Handle, file: number): number;
  waitForPages(reader: boolean, ticket: number): void;
  copyAside(to: Handle, from: Handle): void;
  awaitAside(device: string, out: boolean): void;
  setGradMode(on: boolean): boolean;
  requireGrad(handle: Handle, on: boolean): void;
  setGrad(leaf: Handle, gradient: Handle | null): void;
  takeGrad(leaf: Handle): Handle | null;
  backward(outputs: Handle[], gradients: Handle[]): void;
  grad(outputs: Handle[], inputs: Handle[], gradients: Handle[]): (Handle | null)[];
  memory(): { handles: number; blocks: number; liveBytes: number; peakBytes: number; mappedBytes: number; spareBytes: number };
  resetPeak(): void;
  setMemoryLimit(bytes: number): void;
  /** From now on figures of this GPU are without these bytes. */
  setLibraryBytes(index: number, bytes: number): void;
  cudaMemory(index: number, resetPeak: boolean): { liveBytes: number; peakBytes: number; reservedBytes: number } | null;
  engine(): { version: string; threads: number; cudaDevices: number; config: string };
  setThreads(threads: number): void;
  setSeed(seed: number): void;
  setDeterministic(on: boolean): void;
  generatorState(device: string): Handle;
  setGeneratorState(device: string, state: Handle): void;
  synchronize(device: string): void;
  /** From now on SIGINT, SIGTERM and SIGHUP ask for a stop, see torch/signals.ts. */
  listenForStop(fd: number, acknowledged: string, left: string): void;
  setStopWords(acknowledged: string, left: string): void;
  /** The signal that asked; 0 for none. */
  stopSignal(): number;
  forgetStop(): void;
}

function load(): Native {
  settleWaiting();
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
    return createRequire(import.meta.url)(addon) as Native;
  } catch (failure) {
    throw new UserError(`${addon}: the engine cannot be loaded: ${(failure as Error).message}. Run: npm run setup`);
  }
}

const addon = load();
addon.setGradMode(false);
let engine = addon;

/** Runs `fn` with the engine that `make` makes beside the real one; tensors of either are unknown to the other. */
export function withEngine<Result>(make: (real: Native) => Native, fn: () => Result): Result {
  const before = engine;
  engine = make(addon);
  try {
    return fn();
  } finally {
    engine = before;
  }
}

/** An operator of whatever engine there is at a call, looked up once for each. */
function operator(name: string): (...args: OpArgument[]) => unknown {
  let of: Native | null = null;
  let call: ReturnType<Native["op"]>;
  return (...args) => {
    if (of !== engine) {
      call = engine.op(name);
      of = engine;
    }
    return call(...args);
  };
}

type Call = (...args: unknown[]) => unknown;

/** What the engine of the moment exports. */
export const native = Object.fromEntries(
  Object.keys(addon).map((name) => [
    name,
    name === "op" ? operator : (...args: unknown[]) => (engine[name as keyof Native] as Call)(...args),
  ]),
) as unknown as Native;
