// revmoe.json: which network a folder's weights were trained as. It stands beside the ordinary config.json, which other
// tools read; a folder without it holds the ordinary network.
import { existsSync } from "node:fs";
import { join } from "node:path";

import { writeFileDurably } from "../checkpoint/files/disk.js";
import { readJsonObject } from "../checkpoint/folder.js";
import { NETWORK_KEY } from "../checkpoint/trained-form.js";
import { UserError } from "../errors.js";
import { type AdapterSettings, withAdapters } from "../model/adapters.js";
import { MOST } from "../families/config-reader.js";
import type { Architecture } from "../model/architecture.js";
import type { Coupling } from "../reversible/coupling.js";
import {
  type CouplingName,
  type CouplingSettings,
  type DescribedFields,
  type DescribedSettings,
  describeCoupling,
  isCouplingName,
  isDescribed,
  makeCoupling,
} from "../reversible/couplings/registry.js";
import { floatStreams, gridStreams, type StreamFormat } from "../reversible/streams.js";
import type { Division } from "./network.js";

export const NETWORK_FILE = "revmoe.json";

/** A network as revmoe.json describes it. A coupling's own fields are in its definition. */
export interface NetworkDescription extends Partial<Division>, DescribedFields {
  coupling: CouplingName;
  stream: "int32" | "int64" | "float32";
  streamFractionBits?: number;
}

export const ORDINARY: NetworkDescription = { coupling: "ordinary", stream: "float32" };

export const FRACTION_BITS = { int32: 16, int64: 32 };

export interface NetworkSettings extends DescribedSettings {
  coupling: CouplingName;
  stream: NetworkDescription["stream"];
  stream_fraction_bits: number;
  blocks_per_step: number;
  checkpoint_first_blocks: number;
  checkpoint_last_blocks: number;
}

/** Describes a network with these settings; `gamma` is its present value, where it changes during a run. */
export function describeNetwork(settings: NetworkSettings, gamma = settings.gamma): NetworkDescription {
  const {
    coupling,
    stream,
    stream_fraction_bits: bits,
    blocks_per_step,
    checkpoint_first_blocks,
    checkpoint_last_blocks,
  } = settings;
  if (coupling === ORDINARY.coupling) return ORDINARY;
  return {
    coupling,
    ...describeCoupling(coupling, { ...settings, gamma }),
    stream,
    ...(stream === "float32" ? {} : { streamFractionBits: bits || FRACTION_BITS[stream] }),
    ...(blocks_per_step > 1 ? { blocksPerStep: blocks_per_step } : {}),
    ...(checkpoint_first_blocks > 0 ? { ordinaryFirst: checkpoint_first_blocks } : {}),
    ...(checkpoint_last_blocks > 0 ? { ordinaryLast: checkpoint_last_blocks } : {}),
  };
}

/** Makes the coupling; `settings` say how its inverse is computed, and are needed for training only. */
export const couplingOf = (description: NetworkDescription, settings?: CouplingSettings): Coupling =>
  makeCoupling(description, settings);

/** What a network adds to a family's architecture: adapters, where its streams are narrower than the model. */
export const extensionOf =
  ({ adapters, ordinaryFirst, ordinaryLast }: NetworkDescription, init: AdapterSettings["init"] = "identity") =>
  (architecture: Architecture): Architecture =>
    adapters ? withAdapters(architecture, { sharing: adapters, init, ordinaryFirst, ordinaryLast }) : architecture;

/** The parts of a network that a description decides. */
export function networkParts(
  description: NetworkDescription,
  settings?: CouplingSettings,
): { coupling: Coupling; format: StreamFormat; division: Division } {
  const { blocksPerStep = 1, ordinaryFirst = 0, ordinaryLast = 0 } = description;
  return {
    coupling: couplingOf(description, settings),
    format: formatOf(description),
    division: { blocksPerStep, ordinaryFirst, ordinaryLast },
  };
}

export function formatOf({ stream, streamFractionBits }: NetworkDescription): StreamFormat {
  return stream === "float32"
    ? floatStreams("float32")
    : gridStreams(stream, streamFractionBits ?? FRACTION_BITS[stream]);
}

/** What a folder says of its network; the ordinary network if it says nothing. */
export const readNetworkFile = (folder: string): NetworkDescription => statedNetwork(folder) ?? ORDINARY;

/**
 * What a folder says of its network: in revmoe.json, or in a config.json that transformers saved again. Errors:
 * UserError.
 */
export function statedNetwork(folder: string): NetworkDescription | undefined {
  const own = join(folder, NETWORK_FILE);
  const path = existsSync(own) ? own : join(folder, "config.json");
  if (!existsSync(path)) return undefined;
  try {
    const parsed = readJsonObject(path) as { [NETWORK_KEY]?: unknown };
    const read = path === own ? parsed : parsed[NETWORK_KEY];
    if (read === undefined) return undefined;
    if (isDescription(read)) return read;
  } catch {
    // A config.json that cannot be read is reported where the model is read.
    if (path !== own) return undefined;
  }
  const it = path === own ? "it" : `its key ${NETWORK_KEY}`;
  const what = path === own ? "is not" : `${NETWORK_KEY} is not`;
  throw new UserError(
    `${path}: ${what} a description of a network that this version knows. Remove ${it} to use the folder as the ordinary network.`,
  );
}

function isDescription(read: unknown): read is NetworkDescription {
  if (typeof read !== "object" || read === null) return false;
  const { coupling, stream, streamFractionBits, ...rest } = read as Record<string, unknown>;
  const isCount = (value: unknown, least: number, most: number): boolean =>
    value === undefined || (Number.isInteger(value) && (value as number) >= least && (value as number) <= most);
  return (
    isCouplingName(coupling) &&
    isDescribed(coupling, rest) &&
    ["int32", "int64", "float32"].includes(stream as string) &&
    isCount(streamFractionBits, 1, stream === "int32" ? 28 : 52) &&
    isCount(rest.blocksPerStep, 1, MOST.layers) &&
    isCount(rest.ordinaryFirst, 0, MOST.layers) &&
    isCount(rest.ordinaryLast, 0, MOST.layers)
  );
}

/** Writes what `readNetworkFile` reads. */
export const writeNetworkFile = (folder: string, description: NetworkDescription): void =>
  writeFileDurably(join(folder, NETWORK_FILE), `${JSON.stringify(description, null, 2)}\n`);
