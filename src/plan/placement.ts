// Where the bytes of a plan are: the device's memory, main memory, files. The one place that knows which terms a tier moves.
import type { MemoryTerms } from "../train/memory-terms.js";
import type { TrainSettings } from "../train/settings.js";

export interface Placed {
  /** The peak on the device; on the CPU that is main memory. */
  deviceBytes: number;
  /** Main memory beside it; 0 where the device is the CPU. */
  hostBytes: number;
  /** Mapped files, of which the system keeps what it has room for. */
  diskBytes: number;
}

export function placementOf({ device }: Pick<TrainSettings, "device">, terms: MemoryTerms, hostBytes: number): Placed {
  return { deviceBytes: terms.peakBytes, hostBytes: device === "cpu" ? 0 : hostBytes, diskBytes: 0 };
}
