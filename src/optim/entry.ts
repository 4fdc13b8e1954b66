// What an optimizer's file exports about it, so that only one other place names it: the list in registry.ts. It has
// types only, and a function that infers them: `make` and `check` see exactly the settings of the optimizer's rows.
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
  /** The lowest and the highest good learning rate when all parameters of a pretrained model are trained. */
  readonly goodRates: readonly [number, number];
  /** Its settings, without a group. Optimizers that share a setting share the row: one object, not two equal ones. */
  readonly rows: Rows;
  /** Those of its settings that decide the size of its state: `plan` has them too. */
  readonly memoryRows?: MemoryRows;
  /** Whether its updates do not grow with the gradient, so that clipping does little. */
  readonly ignoresGradientSize?: boolean;
  /**
   * Number of neighbouring elements that share a piece of state. Experts can be updated in groups if each is whole
   * blocks.
   */
  readonly stateBlock?: number;
  /** Whether `plan` proposes it where memory is short. */
  readonly isProposedForMemory?: boolean;
  /** `productDtype` is the dtype of the optimizer's own matrix products. */
  make(settings: SettingsOf<Rows> & SettingsOf<MemoryRows> & EverySettings, productDtype: DType): Optimizer;
  /** Why its settings have no effect on a model, as the sentence of a `UserError`; undefined where they have one. */
  check?(
    settings: SettingsOf<Rows> & SettingsOf<MemoryRows>,
    model: { name: string; parameters: readonly ParameterFacts[] },
  ): string | undefined;
}

/** Returns the entry with its exact types. */
export const defineOptimizer = <
  const Name extends string,
  const Rows extends SettingRows,
  const MemoryRows extends SettingRows = Record<never, never>,
>(
  entry: OptimizerEntry<Name, Rows, MemoryRows>,
): OptimizerEntry<Name, Rows, MemoryRows> => entry;
