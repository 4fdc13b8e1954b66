// What a model is, from its files alone: family, layers by kind, parameters, how its weights lie on disk, what passes through, template
// and ends, and which store and optimizer let it be trained with the memory that is free. No weight is read.
import { commonDtype, dtypeOnDisk, matchTensors } from "../checkpoint/load.js";
import { fullName } from "../checkpoint/layout.js";
import { passingSources } from "../checkpoint/pass-through.js";
import { sourceBytes } from "../checkpoint/safetensors/writer.js";
import { openSource } from "../checkpoint/source.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { turnEnd } from "../data/turn-end.js";
import { findStopIds } from "../generate/stop-ids.js";
import { readArchitecture } from "../families/registry.js";
import { extensionOf, readNetworkFile, couplingOf } from "../network/description.js";
import { parameterCount, type PlacedParameter, placedParameters } from "../model/model.js";
import { byteLength } from "../checkpoint/safetensors/header.js";
import type { DType } from "../torch/tensor.js";
import { resolverOf } from "./settings.js";
import type { Geometry } from "./shadow-step.js";
import { machineOf } from "./ways/machine.js";
import { findWays } from "./ways/ways.js";
import { changesOf } from "./ways/words.js";

/** Where and how a step fits, in bytes. */
export interface FittingPlan {
  flags: string;
  tokens: number;
  deviceBytes: number;
  diskBytes: number;
}

export interface LayerRun {
  kinds: string[];
  from: number;
  count: number;
}

export interface ModelFacts {
  path: string;
  modelType: string;
  /** How it was trained here; undefined for the ordinary network. */
  trainedAs: string | undefined;
  /** Runs of layers in order: of one kind, or of several in turn. */
  layers: LayerRun[];
  hiddenSize: number;
  vocabSize: number;
  maxPositions: number;
  tied: boolean;
  experts: { count: number; perToken: number; width: number };
  parameters: number;
  /** Those that take part for one token. */
  activeParameters: number;
  /** Of the weights as they are loaded, by dtype. */
  bytes: Partial<Record<DType, number>>;
  /** What is decoded when weights are read; undefined where they are floats. */
  decoding: string | undefined;
  passing: { tensors: number; bytes: number; first: string | undefined };
  /** Names of chat templates; none where there is no tokenizer or no template. */
  templates: string[];
  /** Tokens that end a text, and a turn of a chat, by name. */
  ends: { text: string[]; turn: string | undefined };
  /** The fastest way to take a step on this machine's processor; null where none fits, or none was looked for. */
  fits: FittingPlan | null;
}

/**
 * `memory`: of this machine, for what fits, as a size or nothing; null looks for none. Errors: UserError as of `openSource`, and for weights
 * that do not fit config.json.
 */
export function modelFacts(folder: string, memory: string | null): ModelFacts {
  const source = openSource(folder);
  const description = readNetworkFile(folder);
  const architecture = extensionOf(description)(readArchitecture(source.config, source.configPath));
  const weights = source.openWeights();
  try {
    const matched = matchTensors(weights, architecture);
    const common = commonDtype(weights);
    const dtypeOf = (placed: PlacedParameter): DType => {
      const pieces = matched.get(fullName(placed));
      return pieces ? dtypeOnDisk(weights, pieces) : common;
    };
    const placed = placedParameters(architecture);
    const bytes: ModelFacts["bytes"] = {};
    for (const each of placed) {
      const dtype = dtypeOf(each);
      bytes[dtype] = (bytes[dtype] ?? 0) + byteLength(dtype, each.spec.shape);
    }
    const passing = passingSources(weights, architecture);
    const { modelType, layers, hiddenSize, vocabSize, maxPositions, experts, outer } = architecture;
    const routed = placed.filter(({ spec }) => spec.experts);
    const idleShare = experts.count === 0 ? 0 : 1 - experts.perToken / experts.count;
    const parameters = parameterCount(placed);
    return {
      path: folder,
      modelType,
      trainedAs: description.coupling === "ordinary" ? undefined : couplingOf(description).name,
      layers: runsOf(layers.map(({ kind }) => kind)),
      ...{ hiddenSize, vocabSize, maxPositions, experts },
      tied: outer.head === null,
      parameters,
      activeParameters: parameters - Math.round(parameterCount(routed) * idleShare),
      bytes,
      decoding: source.decoding,
      passing: { tensors: passing.length, bytes: sourceBytes(passing), first: passing[0]?.name },
      ...wordsOf(source),
      fits: memory === null ? null : fittingPlan(folder, { architecture, dtypeOf }, memory),
    };
  } finally {
    weights.close();
  }
}

/** Longest turn that is looked for. */
const LONGEST_TURN = 16;

function runsOf(kinds: string[]): LayerRun[] {
  const runs: LayerRun[] = [];
  for (let from = 0; from < kinds.length; from += runs[runs.length - 1].count) {
    let best = { turn: 1, count: lengthOf(kinds, from, 1) };
    for (let turn = 2; turn <= LONGEST_TURN; turn++) {
      const count = lengthOf(kinds, from, turn);
      if (count >= 2 * turn && count > best.count) best = { turn, count };
    }
    runs.push({ kinds: kinds.slice(from, from + best.turn), from, count: best.count });
  }
  return runs;
}

/** How many layers from `from` on repeat with a period. */
function lengthOf(kinds: string[], from: number, period: number): number {
  let end = Math.min(from + period, kinds.length);
  while (end < kinds.length && kinds[end] === kinds[end - period]) end++;
  return end - from;
}

function wordsOf(source: ReturnType<typeof openSource>): Pick<ModelFacts, "templates" | "ends"> {
  if (source.readFile("tokenizer.json") === undefined) return { templates: [], ends: { text: [], turn: undefined } };
  const tokenizer = loadTokenizer(source);
  const ids = findStopIds(source, tokenizer, { chat: false });
  const nameOf = (id: number): string => tokenizer.nameOf(id) ?? `id ${id}`;
  const turn = tokenizer.chatTemplate === undefined ? undefined : turnEnd(tokenizer);
  return {
    templates: [
      ...new Set([
        ...(tokenizer.chatTemplate === undefined ? [] : ["default"]),
        ...Object.keys(tokenizer.chatTemplates),
      ]),
    ],
    ends: { text: [...ids].map(nameOf), turn: turn === undefined ? undefined : nameOf(turn) },
  };
}

function fittingPlan(model: string, geometry: Geometry, memory: string): FittingPlan | null {
  const tokens = Math.min(2048, geometry.architecture.maxPositions);
  const work = { model, max_length: tokens, per_device_train_batch_size: 1 };
  const machine = machineOf({ gpu: "", memory, disk: "", device: "cpu", folder: process.cwd() });
  const asked = new Set(Object.keys(work));
  const [way] = findWays(resolverOf(work, asked), geometry, machine, asked);
  if (way === undefined) return null;
  const { deviceBytes, diskBytes } = way.plan.placed;
  return { flags: changesOf(way.plan.settings), tokens, deviceBytes, diskBytes };
}
