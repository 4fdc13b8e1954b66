// Where the bytes of a plan are: the device's memory, main memory, files. Its definition says where a store has weights and state.
import type { MemoryTerms } from "../step/memory-terms.js";
import { STORES } from "../store/registry.js";
import { type HeldBytes, hasAllOnDevice } from "../store/store.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { isCpu } from "../torch/device.js";

export interface Placed {
  /** The peak on the device; on the CPU that is main memory. */
  deviceBytes: number;
  /** Main memory beside it; 0 where the device is the CPU. */
  hostBytes: number;
  /** Mapped files, of which the system keeps what it has room for. */
  diskBytes: number;
}

/** The terms with `held` alone of weights and optimizer state where `parameters` has these elsewhere; a block's copies in use stay in the working set. */
export function onDevice(
  { parameters }: Pick<TrainSettings, "parameters">,
  terms: MemoryTerms,
  held: HeldBytes,
): { terms: MemoryTerms; elsewhereBytes: number } {
  if (hasAllOnDevice(STORES[parameters])) return { terms, elsewhereBytes: 0 };
  const elsewhereBytes = terms.weightBytes + terms.stateBytes - held.weightBytes - held.stateBytes;
  return {
    terms: { ...terms, ...held, peakBytes: terms.peakBytes - elsewhereBytes },
    elsewhereBytes,
  };
}

/** `hostBytes` is what waits in main memory for the backward pass, `elsewhereBytes` what `onDevice` left out, `storedBytes` what main memory takes for that. */
export function placementOf(
  { device, parameters }: Pick<TrainSettings, "device" | "parameters">,
  terms: MemoryTerms,
  { hostBytes, elsewhereBytes, storedBytes }: { hostBytes: number; elsewhereBytes: number; storedBytes: number },
): Placed {
  const { lies } = STORES[parameters];
  const waiting = isCpu(device) ? 0 : hostBytes;
  return {
    deviceBytes: terms.peakBytes,
    hostBytes: waiting + (lies === "memory" ? storedBytes : 0),
    diskBytes: lies === "files" ? elsewhereBytes : 0,
  };
}
