// One training step on an engine that counts bytes and computes nothing: the same code as in a run, so what the step needs at
// its highest span is what it will need. Two things are guesses: tokens spread evenly over experts, and documents are as long
// as they may be. Nothing is allocated and nothing read but config.json.
import type { SizedBatch } from "../data/batches.js";
import type { Architecture } from "../model/architecture.js";
import { buildModel, type PlacedParameter, placedParameters, storedDtype, weightBytes } from "../model/model.js";
import { isCpu, setThreads } from "../torch/device.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { during } from "../torch/span.js";
import { onShadow, shadowSpans } from "../torch/shadow.js";
import type { DType } from "../torch/tensor.js";
import { type MemoryTerms, memoryTerms } from "../step/memory-terms.js";
import { describeNetwork, extensionOf } from "../network/description.js";
import { type Phase, trainsOf } from "../train/phases.js";
import { STORES } from "../store/registry.js";
import type { Shares } from "../store/sharded/shares.js";
import { type HeldBytes, NOTHING_HELD } from "../store/store.js";
import { networkOf, statesOf } from "../train/prepare-network.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { ALONE, type Collectives } from "../parallel/collectives.js";
import { heldBytes, sharesOf } from "../store/sharded/planned-shares.js";
import { plannedRank } from "./planned-ranks.js";
import { type ExpertTraffic, expertsStay, expertTraffic } from "../train/ranks/expert-sharing.js";
import { sharedOptions } from "../train/prepare-store.js";
import { stepOptions } from "../train/step-options.js";
import { trainStep } from "../step/step.js";

/** What of a model a plan has to know; adapters are added by the settings. */
export interface Geometry {
  architecture: Architecture;
  /** As the weights are stored. */
  dtypeOf(parameter: PlacedParameter): DType;
}

export interface ShadowStep {
  terms: MemoryTerms;
  /** Parts of what is kept for the backward pass. */
  bitBytes: number;
  routingBytes: number;
  /** The highest total on the device in each span of the step, by its name. */
  spans: Map<string, number>;
  /** Beside it in main memory, where the device has memory of its own: block inputs or stored bits that wait there. */
  hostBytes: number;
  /** What the rank sends to those that hold its micro-batches together with it. */
  exchangedBytes: number;
}

/** The phase that trains all that is trained, by labels; others train less, and may have a teacher beside them. */
export const plannedPhase = ({ learning_rate }: TrainSettings): Phase => ({
  name: "full",
  firstStep: 1,
  lastStep: 1,
  peakLearningRate: learning_rate,
});

export interface ShadowOptions {
  engine?: typeof onShadow;
  /** Of several ranks, one. */
  ranks?: Collectives;
  /** Who holds what of the whole model, where they share it. */
  shares?: Shares;
}

export function shadowStep(
  settings: TrainSettings,
  geometry: Geometry,
  batches: SizedBatch[],
  { engine = onShadow, ranks = ALONE, shares }: ShadowOptions = {},
): ShadowStep {
  return engine(() => {
    const { device } = settings;
    // Blocks that stay on the device add what they take, wherever they are among the others.
    const { store, network, states } = shadowNetwork({ ...settings, blocks_on_device: 0 }, geometry, ranks, shares);
    resetPeak(device);
    const options = { ...stepOptions(settings, plannedPhase(settings), 1), ranks };
    // Every rank has as many, or every group of those that hold them together.
    const ofAll = Array.from({ length: ranks.world / settings.sequence_ranks }, () => batches).flat();
    const before = ranks.sentBytes();
    const result = during("streams", () => trainStep(network, states, ofAll, options));
    const { bitBytes, routingBytes } = result;
    // Told as if they were on the device; where they are is said by placement.ts.
    const all = { weightBytes: weightBytes(network.model), stateBytes: states.bytes };
    const elsewhereBytes = store.held === null ? 0 : all.weightBytes + all.stateBytes;
    const terms = memoryTerms(network, states, result);
    return {
      terms: { ...terms, ...all, peakBytes: terms.peakBytes + elsewhereBytes },
      bitBytes,
      routingBytes,
      spans: new Map([...shadowSpans(device)].map(([name, bytes]) => [name, bytes + elsewhereBytes])),
      hostBytes: isCpu(device) ? 0 : ledger("cpu").peakBytes - store.hostBytes,
      exchangedBytes: ranks.sentBytes() - before,
    };
  });
}

/** What weights and state take that do not all lie on the device: nothing that a step at another depth could tell. */
export interface StoredBytes {
  /** In main memory beside the device; no sum of what each takes. */
  hostBytes: number;
  /** On the device. */
  held: HeldBytes;
  /** In files, where no step at another depth tells. */
  fileBytes?: number;
}

export function storedBytes(settings: TrainSettings, geometry: Geometry): StoredBytes {
  if (STORES[settings.parameters].lies !== "memory") return { hostBytes: 0, held: NOTHING_HELD };
  return onShadow(() => {
    const { hostBytes, held } = shadowNetwork(settings, geometry, ALONE).store;
    return { hostBytes, held: held ?? NOTHING_HELD };
  });
}

/** How so many ranks share weights and state, and what each of them holds. */
export function plannedShares(
  settings: TrainSettings,
  geometry: Geometry,
  world: number,
): { shares: Shares; held: HeldBytes[]; experts: ExpertTraffic & { stay: boolean } } {
  const architecture = extensionOf(describeNetwork(settings))(geometry.architecture);
  const planned = plannedParameters(architecture, geometry);
  const options = sharedOptions(settings, architecture, plannedRank(0, world));
  const shares = sharesOf(planned, options);
  const stay = expertsStay(settings, architecture, planned, world);
  return {
    shares,
    held: heldBytes(planned, shares, options),
    experts: { stay, ...expertTraffic(settings, architecture, planned, world) },
  };
}

const plannedParameters = (architecture: Architecture, { dtypeOf }: Geometry) =>
  placedParameters(architecture).map((placed) => ({ placed, dtype: storedDtype(placed, dtypeOf(placed)) }));

function shadowNetwork(settings: TrainSettings, geometry: Geometry, ranks: Collectives, shares?: Shares) {
  const { device, threads } = settings;
  setThreads(threads);
  const extended = extensionOf(describeNetwork(settings))(geometry.architecture);
  const store = STORES[settings.parameters].makePlanned({
    ...{ device, architecture: extended },
    shared: { ...sharedOptions(settings, extended, ranks), shares },
    blocksOnDevice: settings.blocks_on_device,
  });
  const make = store.allocate(plannedParameters(extended, geometry));
  const model = during("weights", () => buildModel(extended, make));
  const network = { ...networkOf(settings, model, store), trains: trainsOf(plannedPhase(settings), settings, model) };
  const states = during("optimizer state", () => statesOf(settings, network));
  return { store, network, states };
}
