// What the file of an optimizer exports about it, so that it is named in one other place, the list in registry.ts. Types
// only, and the function that infers them: the settings that `make` and `check` see are those that its rows describe.
import type { SettingRows, SettingsOf } from "../settings/table.js";
import type { DType } from "../torch/tensor.js";
import type { Optimizer, ParameterFacts } from "./optimizer.js";

/** Settings that every optimizer has; their rows are those of `train`. */
interface EverySettings {
  weight_decay: number;
}

/** An optimizer as the settings, the docs, the plan and a run know it. */
export interface OptimizerEntry<Name extends string, Rows extends SettingRows, MemoryRows extends SettingRows> {
  readonly name: Name;
  /** Bytes of state per parameter, in words: "8", "below 0.05". */
  readonly stateBytes: string;
  /** The lowest and the highest learning rate that are good for all parameters of a pretrained model. */
  readonly goodRates: readonly [number, number];
  /** Its settings, without a group. Optimizers that share a setting have the same row: one object, not two that are alike. */
  readonly rows: Rows;
  /** Those of its settings that decide the size of its state: `plan` has them too. */
  readonly memoryRows?: MemoryRows;
  /** Its updates do not grow with the gradient, so that clipping does little. */
  readonly ignoresGradientSize?: boolean;
  /** Elements side by side that share a piece of state; experts can be updated in groups where each is whole blocks. */
  readonly stateBlock?: number;
  /** Whether `plan` proposes it where memory is short. */
  readonly isProposedForMemory?: boolean;
  /** `productDtype` is the type of matrix products that are no part of the network. */
  make(settings: SettingsOf<Rows> & SettingsOf<MemoryRows> & EverySettings, productDtype: DType): Optimizer;
  /** Why its settings have no effect on a model, as the sentence of a `UserError`; undefined where they have one. */
  check?(
    settings: SettingsOf<Rows> & SettingsOf<MemoryRows>,
    model: { name: string; parameters: readonly ParameterFacts[] },
  ): string | undefined;
}

/** The entry as given, with its exact types. */
export const defineOptimizer = <
  const Name extends string,
  const Rows extends SettingRows,
  const MemoryRows extends SettingRows = Record<never, never>,
>(
  entry: OptimizerEntry<Name, Rows, MemoryRows>,
): OptimizerEntry<Name, Rows, MemoryRows> => entry;
