// revmoe.json: which network a folder's weights were trained as. It stands beside the ordinary config.json, which other
// tools read; without it a folder is the ordinary network.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../errors.js";
import { additive } from "../reversible/additive.js";
import type { Coupling } from "../reversible/coupling.js";
import { momentum } from "../reversible/momentum.js";
import { ordinary } from "../reversible/ordinary.js";
import { floatStreams, gridStreams, type StreamFormat } from "../reversible/streams.js";

export const NETWORK_FILE = "revmoe.json";

export interface NetworkDescription {
  coupling: "momentum" | "additive" | "ordinary";
  /** For momentum alone. */
  gamma?: number;
  stream: "int32" | "int64" | "float32";
  streamFractionBits?: number;
}

export const ORDINARY: NetworkDescription = { coupling: "ordinary", stream: "float32" };

const FRACTION_BITS = { int32: 16, int64: 32 };

export function describeNetwork(settings: {
  coupling: NetworkDescription["coupling"];
  gamma: number;
  stream: NetworkDescription["stream"];
  stream_fraction_bits: number;
}): NetworkDescription {
  const { coupling, gamma, stream, stream_fraction_bits: bits } = settings;
  if (coupling === "ordinary") return ORDINARY;
  return {
    coupling,
    ...(coupling === "momentum" ? { gamma } : {}),
    stream,
    ...(stream === "float32" ? {} : { streamFractionBits: bits || FRACTION_BITS[stream] }),
  };
}

export function couplingOf({ coupling, gamma }: NetworkDescription): Coupling {
  if (coupling === "momentum") return momentum(gamma ?? 0.25);
  return coupling === "additive" ? additive : ordinary;
}

export function formatOf({ stream, streamFractionBits }: NetworkDescription): StreamFormat {
  return stream === "float32" ? floatStreams("float32") : gridStreams(stream, streamFractionBits ?? FRACTION_BITS[stream]);
}

/**
 * Whether the ordinary network of the same weights is, within a fraction of a percent of held-out loss, the network that
 * was trained: `additive` and the midpoint rule (momentum with gamma -1) are other functions.
 */
export const isNearOrdinary = ({ coupling, gamma }: NetworkDescription): boolean =>
  coupling === "ordinary" || (coupling === "momentum" && gamma !== -1);

/** What a folder says of itself; the ordinary network when it says nothing. */
export function readNetworkFile(folder: string): NetworkDescription {
  const path = join(folder, NETWORK_FILE);
  if (!existsSync(path)) return ORDINARY;
  try {
    const read = JSON.parse(readFileSync(path, "utf8")) as NetworkDescription;
    if (["momentum", "additive", "ordinary"].includes(read.coupling) && ["int32", "int64", "float32"].includes(read.stream)) return read;
  } catch {
    // Falls through to the one message.
  }
  throw new UserError(
    `${path}: is not a description of a network that this version knows. Remove it to use the folder as the ordinary network.`,
  );
}
