// The library on which the command line is built. Everything here may be imported from "revmoe"; the rest is internal.
// Groups follow the data: a model, rows, a network, a step, a run, what is done with the result.
export { UserError } from "./errors.js";

// What most programs need: a run, its plan, a trained model.
export { type Rows, train, type Training, type TrainOptions, type TrainResult } from "./library/train.js";
export type { Settings } from "./library/settings.js";
export {
  plan,
  type PlannedLayoutData,
  type PlannedStep,
  type PlannedWay,
  type PlanReport,
  type PlanSettings,
} from "./library/plan.js";
export { open, type OpenModel, type OpenOptions } from "./library/open.js";
export type { GenerateOptions } from "./library/generate-settings.js";
export type { Generation } from "./library/generation.js";
export type { FittingPlan, LayerRun, ModelFacts } from "./plan/model-facts.js";
export type { Kept, SpanPeak } from "./plan/plan.js";
export type { Placed } from "./plan/placement.js";
export type { Card, Machine } from "./plan/ways/machine.js";
export type { NetworkDescription } from "./network/description.js";

// The engine: tensors are integer handles, freed by scopes; operators by name; live and peak bytes.
export { engineInfo, setThreads, synchronize } from "./torch/device.js";
export { type Ledger, ledger, resetPeak } from "./torch/memory.js";
export * as ops from "./torch/ops.js";
export { hasOp } from "./torch/ops.js";
export { setSeed } from "./torch/random.js";
export { free, keep, scope } from "./torch/scope.js";
export {
  type DType,
  device,
  dtype,
  fromArray,
  item,
  numel,
  shape,
  type Tensor,
  toArray,
  zeros,
} from "./torch/tensor.js";

// Models: a folder, a .gguf file or a name on a hub; in memory; saved and exported.
export { resolveModel } from "./hub/resolve.js";
export { type ModelSource, openSource } from "./checkpoint/source.js";
export { readArchitecture } from "./families/registry.js";
export type { Architecture, Layer, ParameterSpec } from "./model/architecture.js";
export { freeModel, type Model, parameterCount, type PlacedParameter, placedParameters } from "./model/model.js";
export { loadModel } from "./checkpoint/load.js";
export { saveModel } from "./checkpoint/save.js";
export { exportFolder } from "./checkpoint/export.js";
export { upcycle, type UpcycleOptions } from "./upcycle/upcycle.js";

// Rows: files, their content, tokens and batches.
export { type OpenSources, openSources, type RowBatch } from "./data/sources/open-sources.js";
export { parseSources } from "./data/sources/parse.js";
export type { Source } from "./data/sources/source.js";
export { readSample } from "./data/conversation.js";
export type { RowFormat } from "./data/conversations/row-kind.js";
export type { Sample } from "./data/conversations/sample.js";
export type { Row } from "./data/rows.js";
export { resolveSources } from "./hub/datasets.js";
export { type Batch, Batches, type SizedBatch } from "./data/batches.js";
export type { Document, Documents } from "./data/documents.js";
export { loadWithInput } from "./data/prepared/tokenizer-input.js";
export { loadTokenizer, type Tokenizer } from "./data/tokenizer/tokenizer.js";
export { readData, type RunRows } from "./train/prepare-data.js";

// Couplings, and what methods keep of the forward pass.
export type { Apply, Branch, Coupling, Known, Pass, Rebuild, Visit } from "./reversible/coupling.js";
export { additive } from "./reversible/couplings/additive.js";
export { bdia } from "./reversible/couplings/bdia.js";
export { momentum } from "./reversible/couplings/momentum.js";
export { ordinary } from "./reversible/couplings/ordinary.js";
export type { Method } from "./reversible/methods/method.js";
export { METHODS } from "./reversible/methods/registry.js";
export { revffn, type RevffnSettings } from "./reversible/couplings/revffn.js";
export { floatStreams, gridStreams, type StreamFormat } from "./reversible/streams.js";

// Optimizers, and the parts for one of your own.
export type { Optimizer, ParameterFacts, Rule, State, StateLayout, Update } from "./optim/optimizer.js";
export { makeOptimizer, OPTIMIZER_NAMES, type OptimizerName } from "./optim/registry.js";
export { gammaAt, learningRateAt, type Schedule } from "./optim/schedule.js";
export { forTiles, range } from "./optim/tiles.js";
export type { Weight } from "./optim/weights/weight.js";

// A model seen through a coupling; one step; its memory by term.
export { asEvaluated, asOrdinary, type Division, type Network } from "./network/network.js";
export { evaluateLoss } from "./network/evaluate.js";
export { deviceStore } from "./store/device.js";
export type { ParameterStore } from "./store/store.js";
export { describeMemory, type MemoryTerms, memoryTerms } from "./step/memory-terms.js";
export { OptimizerStates, plannedStateBytes } from "./step/optimizer-states.js";
export { type StepOptions, type StepResult, trainStep } from "./step/step.js";

// A run: settings, its parts, its phases, the loop; what it reports.
export { resolveSettings, type TrainSettings } from "./train/settings/settings.js";
export { freeRun, prepareRun, type Run } from "./train/prepare.js";
export { type Phase, phaseAt } from "./train/phases.js";
export { runStep, type Stepped } from "./train/run-step.js";
export type { RunState } from "./train/run-state.js";
export { stepOptions } from "./train/step-options.js";
export { type Outcome, train as trainRun } from "./train/loop.js";
export type { EvalRecord, ExpertLoad, Inverse, MessageRecord, RunEvent, Sink, StepRecord } from "./metrics/record.js";

// Before a run, beside it and after it.
export { planRun, type RunPlan } from "./plan/run-plan.js";
export { bench, type BenchOptions, type BenchResult } from "./compare/bench.js";
export { type Exactness, type Experiment, openExperiment, type Reading } from "./compare/exactness.js";
export type { BenchRow } from "./compare/rows.js";
export { type BenchSettings, resolveBench } from "./compare/settings.js";
export { generateTokens } from "./generate/generate.js";
export { openNetwork } from "./generate/open-network.js";
export type { Report } from "./verify/findings.js";
export { verify } from "./verify/verify.js";
