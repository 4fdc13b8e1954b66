// An engine that computes nothing and counts every byte: the same handles, scopes, operators and gradients as the real
// one, on tensors with sizes and without elements. Running a training step on it tells what the step will need. Values
// read from a tensor are guesses: numbers are 1, tokens are shared evenly among experts.
import type { Handle, Native, OpArgument } from "../binding.js";
import { isCpu } from "../device-name.js";
import type { Argument, Result } from "../ops/row.js";
import { rows } from "../ops.js";

import { accountOf, clearAccounts } from "./account.js";
import { backward, isRecording, setRecording } from "./gradients.js";
import { realEngine, standFor } from "./real-engine.js";
import { everyRound } from "./rounds.js";
import { drop, hold, make, Value, viewOf } from "./values.js";

/**
 * Handles count up from here: far from any number in a record or an operator's arguments, and small integers for V8,
 * which are fast keys.
 */
const FIRST = -(2 ** 31);

/**
 * Most elements that are kept of a tensor of integers, so that they can be read back: numbers of rows decide about
 * memory, tokens do not.
 */
const MOST_ELEMENTS = 1024;

let calls = 0;
/** Number of operators called on the engine made last. */
export const operatorCalls = (): number => calls;

const noFiles = (): never => {
  throw new Error("internal: the shadow engine maps no files");
};
const noKernels = (): never => {
  throw new Error("internal: the shadow engine compiles no kernels");
};
const NO_KERNELS = {
  nvrtcVersion: noKernels,
  compileKernels: noKernels,
  kernelsOfCpu: noKernels,
  launchesKernels: () => true,
  gpuFacts: noKernels,
  loadKernels: noKernels,
};
const noGroup = (): never => {
  throw new Error("internal: the shadow engine has no other ranks");
};
const NO_GROUP = {
  hasGroups: () => false,
  openGroup: noGroup,
  gatherBytes: noGroup,
  sum: noGroup,
  broadcast: noGroup,
  closeGroup: noGroup,
  ncclFacts: noGroup,
  ncclId: noGroup,
  openLane: noGroup,
  roundSend: noGroup,
  roundReceive: noGroup,
  startRound: noGroup,
  awaitRound: noGroup,
  closeLane: noGroup,
};

/** Messages that nobody receives: a tensor on its way, or its copy in main memory, is held until it was waited for. */
function shadowMessages(at: (handle: Handle) => Value) {
  const held = new Map<number, Value[]>();
  let tickets = 0;
  const start = (values: Value[]): number => {
    held.set(++tickets, values);
    return tickets;
  };
  const copies = (of: Value): Value[] => (isCpu(of.device) ? [] : [make(of.sizes, of.dtype, "cpu")]);
  const end = (ticket: number): void => {
    for (const value of held.get(ticket) ?? []) drop(value);
    held.delete(ticket);
  };
  return {
    // The copy is made soon; then the tensor is no longer held.
    startSend: (handle: Handle) => start(isCpu(at(handle).device) ? [hold(at(handle))] : copies(at(handle))),
    startReceive: (handle: Handle) => start([hold(at(handle)), ...copies(at(handle))]),
    awaitTicket: end,
    dropTicket: end,
  };
}
const NO_FILES = {
  mapFile: noFiles,
  mapShared: noFiles,
  readAhead: noFiles,
  writeBack: noFiles,
  dropPages: noFiles,
  waitForPages: noFiles,
  checkFiles: () => {},
};

/**
 * `real` answers what depends on the machine: its operators, version and devices; `repeat` runs the rounds of a loop.
 */
export function shadowEngine(real: Native, repeat: Native["repeat"]): Native {
  clearAccounts();
  calls = 0;
  standFor(real);
  const table = new Map<Handle, { value: Value; depth: number }>();
  const scopes: Handle[][] = [];
  let next = FIRST;

  const enter = (value: Value): Handle => {
    const handle = next++;
    table.set(handle, { value, depth: scopes.length });
    scopes.at(-1)?.push(handle);
    return handle;
  };
  const at = (handle: Handle): Value => {
    const entry = table.get(handle);
    if (entry === undefined) throw new Error("internal: a tensor of the shadow engine was already freed");
    return entry.value;
  };
  const release = (handle: Handle): void => {
    drop(at(handle));
    table.delete(handle);
  };
  const read = (argument: OpArgument): Argument => {
    if (typeof argument === "number") return table.get(argument)?.value ?? argument;
    return Array.isArray(argument) ? argument.map(read) : (argument as Argument);
  };
  /** A result that is one of the arguments keeps its handle. */
  const write = (result: Result, values: readonly Argument[], handles: readonly OpArgument[]): unknown => {
    if (Array.isArray(result)) return result.map((each) => write(each, values, handles));
    if (typeof result !== "object") return result;
    const at = values.lastIndexOf(result);
    return at < 0 ? enter(result) : handles[at];
  };

  return {
    op: (name) => {
      const row = rows.get(name);
      if (row === undefined) throw new Error(`internal: the shadow engine does not know ${name}`);
      const { rule, cutsGraph } = row;
      return (...args) => {
        calls++;
        const values = args.map(read);
        const holders = values.map((value) => (value instanceof Value ? value.holders : 0));
        const result = rule(...values);
        if (!cutsGraph && recordsNothing(result, values)) {
          throw new Error(`internal: the rule of ${name} has no gradient, and a plan asks for one`);
        }
        // An operator that returns its input (a cast to the same type) holds it once more; the real engine returns the
        // same handle.
        if (result instanceof Value) {
          const same = values.indexOf(result);
          if (same >= 0 && result.holders > holders[same]) result.holders = holders[same];
        }
        return write(result, values, args);
      };
    },
    hasOp: (name) => real.hasOp(name),
    schema: (name) => real.schema(name),
    free: (...handles) => {
      for (const handle of handles) release(handle);
    },
    isAlive: (handle) => table.has(handle),
    keep: (handle) => {
      (table.get(handle) as { depth: number }).depth = 0;
    },
    scopeOpen: () => void scopes.push([]),
    scopeClose: (kept) => {
      const depth = scopes.length;
      const own = scopes.pop() ?? [];
      for (const handle of kept) {
        const entry = table.get(handle);
        if (entry?.depth !== depth) continue;
        entry.depth = depth - 1;
        scopes.at(-1)?.push(handle);
      }
      for (const handle of own) if (table.get(handle)?.depth === depth) release(handle);
    },
    dtype: (handle) => at(handle).dtype,
    device: (handle) => at(handle).device,
    byteSize: (handle) => at(handle).bytes * at(handle).copies,
    sizes: (handle) => [...at(handle).sizes],
    readBytes: (handle, byteOffset, into) => {
      const { storage, dtype } = at(handle);
      into.fill(0);
      if (storage.elements === null || dtype !== "int64") return;
      const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
      const { elements } = storage;
      // A tensor that stands for several has their elements one after the other.
      for (let i = 0; i * 8 < into.byteLength; i++)
        view.setBigInt64(i * 8, BigInt(elements[(byteOffset / 8 + i) % elements.length]), true);
    },
    writeBytes: (handle, byteOffset, from) => {
      const { storage, dtype } = at(handle);
      if (dtype !== "int64" || byteOffset !== 0 || from.byteLength > MOST_ELEMENTS * 8) return;
      const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
      storage.elements = Array.from({ length: from.byteLength / 8 }, (_, i) => Number(view.getBigInt64(i * 8, true)));
    },
    ...NO_FILES,
    ...NO_KERNELS,
    ...NO_GROUP,
    ...shadowMessages(at),
    copyAsync: () => {},
    awaitCopies: () => {},
    setGradMode: setRecording,
    requireGrad: (handle, on) => {
      at(handle).requiresGrad = on;
    },
    setGrad: (leaf, gradient) => {
      const value = at(leaf);
      drop(value.grad);
      const from = gradient === null ? null : at(gradient);
      value.grad = from && hold(from);
    },
    takeGrad: (leaf) => {
      const value = at(leaf);
      const { grad } = value;
      value.grad = null;
      return grad === null ? null : enter(viewOfDropped(grad));
    },
    backward: (outputs, gradients) => backward(outputs.map(at), gradients.map(at)),
    grad: () => {
      throw new Error("internal: the shadow engine has no gradients with respect to inputs alone");
    },
    memory: () => {
      const { liveBytes, peakBytes, blocks } = accountOf("cpu");
      return { handles: table.size, blocks, liveBytes, peakBytes, mappedBytes: 0, spareBytes: 0 };
    },
    repeat,
    leavesOut: () => repeat !== everyRound,
    hasElements: () => false,
    resetPeak: () => accountOf("cpu").resetPeak(),
    setMemoryLimit: () => {},
    setLibraryBytes: () => {},
    cudaMemory: (index, reset) => {
      const account = accountOf(`cuda:${index}`);
      if (reset) account.resetPeak();
      return { liveBytes: account.liveBytes, peakBytes: account.peakBytes, reservedBytes: account.liveBytes };
    },
    engine: () => ({ ...real.engine(), threads: realEngine().threads }),
    expertLimits: real.expertLimits,
    steadyRows: real.steadyRows,
    setThreads: (threads) => {
      realEngine().threads = threads;
    },
    setSeed: () => {},
    setDeterministic: () => {},
    generatorState: () => enter(make([0], "uint8", "cpu")),
    setGeneratorState: () => {},
    setDevice: () => {},
    synchronize: () => {},
    listenForStop: real.listenForStop,
    setStopWords: real.setStopWords,
    stopSignal: real.stopSignal,
    forgetStop: real.forgetStop,
  };
}

/** Whether a graph is recorded, but a result that depends on an input with a gradient is not part of it. */
const recordsNothing = (result: Result, given: readonly Argument[]): boolean => {
  if (!isRecording()) return false;
  const made = [result].flat().filter((each) => each instanceof Value && each.dtype.includes("float")) as Value[];
  const isPart = (each: unknown): boolean =>
    Array.isArray(each) ? each.some(isPart) : each instanceof Value && each.requiresGrad;
  return made.length > 0 && !made.some(isPart) && given.some(isPart);
};

/** A gradient that leaves its leaf becomes a tensor of its own; it may have been a view of a buffer. */
function viewOfDropped(grad: Value): Value {
  if (grad.holders === 1) return grad;
  const view = viewOf(grad, grad.sizes, grad.strides);
  drop(grad);
  return view;
}
