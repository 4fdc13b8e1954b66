// From settings to the network and the optimizer of a run: a model is loaded or made, and seen through its coupling.
// Settings that this model cannot have are refused. The caller owns the model.
import { makeOptimizer, optimizerEntry } from "../optim/registry.js";
import { UserError } from "../errors.js";
import { loadModel } from "../checkpoint/load.js";
import { passingFrom } from "../checkpoint/pass-through.js";
import type { ModelSource } from "../checkpoint/source.js";
import { type Architecture, hasExperts } from "../model/architecture.js";
import { readArchitecture } from "../families/registry.js";
import { type Model, placedParameters, randomModel } from "../model/model.js";
import { CHOICE_CORRECTION } from "../model/routing.js";
import { type Documents, inMemory } from "../data/documents.js";
import { sequentialBatches } from "../data/batches.js";
import { widthProblem } from "../reversible/couplings/registry.js";
import { fittingFractionBits } from "../reversible/streams.js";
import { deviceStore } from "../store/device.js";
import type { ParameterStore } from "../store/store.js";
import { fastestDtype } from "../torch/device.js";
import {
  couplingOf,
  describeNetwork,
  extensionOf,
  FRACTION_BITS,
  type NetworkDescription,
  networkParts,
  ORDINARY,
  readNetworkFile,
} from "../network/description.js";
import { largestHidden } from "../network/evaluate.js";
import type { Network } from "../network/network.js";
import type { Collectives } from "../parallel/collectives.js";
import { OptimizerStates } from "../step/optimizer-states.js";
import type { TrainSettings } from "./settings/settings.js";
import { Teacher } from "../step/teacher.js";

/** Where a resumed run goes on: a folder, and whether that is the working copy itself. */
export interface ResumedFrom {
  folder: string;
  inPlace: boolean;
}

export function makeModel(
  settings: TrainSettings,
  source: ModelSource,
  resumed: ResumedFrom | undefined,
  store: ParameterStore,
  allocate = store.allocate,
): Model {
  const { seed, weights_dtype: weightsDtype } = settings;
  const device = store.held === null ? settings.device : "cpu";
  const extend = extensionOf(describeNetwork(settings), settings.adapter_init);
  const kept = resumed?.inPlace ? store.openModel() : null;
  if (kept) return kept;
  if (resumed || settings.init_weights === "checkpoint") {
    // A resumed folder was checked when it was found.
    const model = loadModel(resumed?.folder ?? source, {
      weightsDtype,
      device,
      extend,
      seed,
      allocate,
      held: store.sharing?.rows,
      verify: resumed === undefined,
    });
    // A checkpoint's config.json has keys added for other readers. The result's config.json is made from the source's.
    model.architecture.source = source.config;
    return model;
  }
  return randomModel(
    extend(readArchitecture(source.config, source.configPath)),
    seed,
    weightsDtype === "auto" ? "float32" : weightsDtype,
    settings.device,
    allocate,
    store.sharing?.rows,
  );
}

/**
 * Takes a resumed run's tensors that pass through from its source: its checkpoint may be removed before it ends, but
 * would take room until then.
 */
export function passFrom(source: ModelSource, model: Model): void {
  model.passed?.close();
  model.passed = passingFrom(source, model.architecture);
}

/** The model as these settings train it; the caller still owns the model. */
export function networkOf(settings: TrainSettings, model: Model, store = deviceStore(settings.device)): Network {
  const description = describeNetwork(settings);
  const problem = widthProblem(settings, model.architecture.hiddenSize);
  if (problem !== false) throw new UserError(problem);
  checkDivision(settings, model.architecture.layers.length);
  checkGroups(settings, model.architecture);
  checkSequences(settings, model.architecture);
  return {
    model,
    ...networkParts(description, settings),
    bitsOnHost: settings.stored_bits === "host",
    device: settings.device,
    store,
    computeDtype: settings.compute_dtype === "auto" ? fastestDtype(settings.device) : settings.compute_dtype,
    lossTileTokens: settings.loss_tile_tokens,
    tileTokens: settings.tile_tokens,
  };
}

/**
 * Settings with stream_fraction_bits filled in, if it is left open: as many bits as this model's hidden states allow.
 */
export function withFittingGrid(
  settings: TrainSettings,
  model: Model,
  documents: Documents,
  store: ParameterStore,
  ranks: Collectives,
): TrainSettings {
  const { stream_fraction_bits: given, max_length } = settings;
  if (given > 0 || describeNetwork(settings).stream !== "int32") return settings;
  const first = Array.from({ length: Math.min(16, documents.length) }, (_, i) => documents.document(i));
  const [batch] = sequentialBatches(inMemory(first), { rows: 1, max_length }).slice(0, 1);
  const largest = largestHidden(networkOf(settings, model, store), batch, ranks, settings.sequence_ranks);
  return { ...settings, stream_fraction_bits: fittingFractionBits(largest, FRACTION_BITS.int32) };
}

/** Optimizer state for what the network trains; the caller frees it. */
export const statesOf = (settings: TrainSettings, { model, trains, computeDtype, store }: Network): OptimizerStates =>
  new OptimizerStates(makeOptimizer(settings, computeDtype), model, {
    weightsCorrection: settings.weights_correction === "8bit",
    trains,
    store,
  });

/** The original network, for a run that distils it; else null. The caller closes it. */
export function teacherOf(
  settings: TrainSettings,
  source: ModelSource,
  network: Network,
  description: NetworkDescription,
): Teacher | null {
  if (settings.distill_steps === 0) return null;
  if (!isConverted(settings, description)) {
    throw new UserError(
      `distill_steps: ${settings.distill_steps} needs an ordinary network to learn from, and ${settings.model} was trained as ` +
        `${couplingOf(readNetworkFile(settings.model)).name}. Remove distill_steps, or give the network that it was made from.`,
    );
  }
  return new Teacher(source, network, settings.distill_temperature);
}

const CONVERSIONS = {
  equal: "which computes the same until training begins",
  close: "which computes nearly the same until training adapts it",
  different: "which computes something else until training adapts it",
};

export function isConverted({ model, init_weights }: TrainSettings, description: NetworkDescription): boolean {
  return (
    init_weights === "checkpoint" &&
    readNetworkFile(model).coupling === ORDINARY.coupling &&
    description.coupling !== ORDINARY.coupling
  );
}

export function notesOf(settings: TrainSettings, description: NetworkDescription): string[] {
  const { model } = settings;
  const coupling = couplingOf(description);
  if (isConverted(settings, description)) {
    return [`${model} is an ordinary network; it becomes ${coupling.name}, ${CONVERSIONS[coupling.conversion]}`];
  }
  const before = readNetworkFile(model);
  if (before.coupling === ORDINARY.coupling || couplingOf(before).name === coupling.name) return [];
  return [`${model} was trained as ${couplingOf(before).name}; this run trains it as ${coupling.name}`];
}

/** Notes on what transformers would take from config.json in training; a run here takes it only from its settings. */
export function configNotes(settings: TrainSettings, { source }: Architecture): string[] {
  const note = (key: "router_aux_loss_coef" | "router_jitter_noise", asks: boolean): string[] =>
    asks && Number(source[key]) > 0 && settings[key] === 0
      ? [`config.json has ${key} ${source[key]}, which is off here unless it is given as a setting`]
      : [];
  const dropout = Number(source.attention_dropout ?? 0);
  return [
    ...note("router_aux_loss_coef", source.output_router_logits === true),
    ...note("router_jitter_noise", true),
    ...(dropout > 0 ? [`config.json has attention_dropout ${dropout}, which is not done here`] : []),
  ];
}

export function checkRouter(settings: TrainSettings, architecture: Architecture): void {
  const { router_bias_update_rate: rate, model } = settings;
  const given = (
    [
      "router_aux_loss_coef",
      "router_z_loss_coef",
      "router_jitter_noise",
      "router_bias_update_rate",
      "freeze_router",
    ] as const
  ).find((name) => settings[name]);
  if (given !== undefined && !hasExperts(architecture)) {
    throw new UserError(`${given}: ${settings[given]} has no effect: no layer of ${model} has a router. Remove it.`);
  }
  if (rate === 0 || placedParameters(architecture).some(({ spec }) => spec.name === CHOICE_CORRECTION)) return;
  throw new UserError(
    `router_bias_update_rate: ${rate} has no effect: no router of ${model} has a correction bias. Remove it, or use router_aux_loss_coef.`,
  );
}

/** Whether a piece of the optimizer's state would belong to two experts. */
export const expertsShareState = (
  { optimizer }: Pick<TrainSettings, "optimizer">,
  { hiddenSize, experts }: Pick<Architecture, "hiddenSize" | "experts">,
): boolean => (hiddenSize * experts.width) % (optimizerEntry(optimizer).stateBlock ?? 1) !== 0;

function checkGroups(settings: TrainSettings, architecture: Architecture): void {
  const { expert_group_size: size, model, optimizer } = settings;
  if (size === 0) return;
  if (!hasExperts(architecture)) {
    throw new UserError(`expert_group_size: ${size} has no effect: no layer of ${model} has experts. Remove it.`);
  }
  if (!expertsShareState(settings, architecture)) return;
  throw new UserError(
    `expert_group_size: ${size} would divide blocks of ${optimizerEntry(optimizer).stateBlock} elements that experts of ${architecture.hiddenSize} x ${architecture.experts.width} share ` +
      `in the state of ${optimizer}. Remove it, or use another optimizer.`,
  );
}

/**
 * Ranks share attention by heads. A head of keys and values may be repeated for several ranks, unless it has a state.
 */
function checkSequences({ sequence_ranks: asked, model }: TrainSettings, { layers }: Architecture): void {
  const heads = layers.flatMap(({ attention }) => attention.heads ?? []);
  const fits = (ranks: number): boolean =>
    heads.every(
      ({ query, keyValue, areStates }) =>
        query % ranks === 0 && (keyValue % ranks === 0 || (!areStates && ranks % keyValue === 0)),
    );
  if (fits(asked)) return;
  const most = Math.min(...heads.map(({ query }) => query));
  const possible = Array.from({ length: most }, (_, i) => i + 1).filter(fits);
  throw new UserError(
    `sequence_ranks: ${asked} ranks cannot share out the heads of attention of ${model} (expected ${possible.join(", ")}).`,
  );
}

function checkDivision(settings: TrainSettings, layers: number): void {
  const { checkpoint_first_blocks: first, checkpoint_last_blocks: last, blocks_per_step: size } = settings;
  if (first + last >= layers && first + last > 0) {
    throw new UserError(
      `checkpoint_first_blocks and checkpoint_last_blocks: ${first} and ${last} of ${layers} blocks leave none to reverse. Keep fewer, or set coupling ordinary and method checkpoint.`,
    );
  }
  if (size > layers - first - last) {
    throw new UserError(
      `blocks_per_step: ${size} is more than the ${layers - first - last} blocks there are to reverse. Use fewer.`,
    );
  }
}
