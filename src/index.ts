// The library: what the command line is made of. Everything here may be imported from "revmoe"; the rest is internal.
export { UserError } from "./errors.js";

/** Every operator of the engine that is used here; results belong to the innermost scope. */
export * as ops from "./torch/ops.js";
export { hasOp } from "./torch/ops.js";
export { type Ledger, ledger, resetPeak } from "./torch/memory.js";
export { engineInfo, setThreads } from "./torch/device.js";
export { free, keep, scope } from "./torch/scope.js";
export type { DType, Tensor } from "./torch/tensor.js";

export type { Architecture, ModelConfig, ParameterSpec } from "./model/architecture.js";
export { freeModel, type Model } from "./model/model.js";
export { loadModel } from "./checkpoint/load.js";
export { saveModel } from "./checkpoint/save.js";
export { type ModelSource, openSource } from "./checkpoint/source.js";
export { exportFolder } from "./checkpoint/export.js";
export { upcycle, type UpcycleOptions } from "./upcycle/upcycle.js";

export type { Apply, Branch, Coupling, Known, Pass, Rebuild, Visit } from "./reversible/coupling.js";
export { additive } from "./reversible/couplings/additive.js";
export { momentum } from "./reversible/couplings/momentum.js";
export { ordinary } from "./reversible/couplings/ordinary.js";
export type { Method } from "./reversible/methods/method.js";
export { METHODS } from "./reversible/methods/registry.js";
export { floatStreams, gridStreams, type StreamFormat } from "./reversible/streams.js";

export type { Optimizer } from "./optim/optimizer.js";
export { adafactor } from "./optim/adafactor.js";
export { adalomo } from "./optim/adalomo.js";
export { adamw } from "./optim/adamw.js";
export { adamw8bit } from "./optim/adamw8bit.js";
export { galoreAdamw } from "./optim/galore.js";
export { muon } from "./optim/muon.js";
export { lomo, sgd } from "./optim/sgd.js";

export { type Batch, Batches } from "./data/batches.js";
export { loadTokenizer, type Tokenizer } from "./data/tokenizer/tokenizer.js";

export type { RunEvent, Sink } from "./metrics/record.js";
export { evaluateLoss } from "./network/evaluate.js";
export { type Outcome, train } from "./train/loop.js";
export { describeMemory, type MemoryTerms, memoryTerms } from "./step/memory-terms.js";
export type { Network } from "./network/network.js";
export { OptimizerStates, plannedStateBytes } from "./step/optimizer-states.js";
export { freeRun, prepareRun, type Run } from "./train/prepare.js";
export { resolveSettings, type TrainSettings } from "./train/settings/settings.js";
export { trainStep } from "./step/step.js";

export { bench, type BenchOptions, type BenchResult } from "./compare/bench.js";
export type { BenchRow } from "./compare/rows.js";
export { type BenchSettings, resolveBench } from "./compare/settings.js";

export { generateTokens } from "./generate/generate.js";
export { openNetwork } from "./generate/open-network.js";
export { resolveModel } from "./hub/resolve.js";
