// All optimizers. The choices of `--optimizer`, its settings with their types, checks, help, docs and what the plan
// proposes follow from this list and from what each file exports (entry.ts).
import type { SettingRow, SettingRows, SettingsOf } from "../settings/table.js";
import type { DType } from "../torch/tensor.js";
import { ADAFACTOR } from "./adafactor.js";
import { ADALOMO } from "./adalomo.js";
import { ADAMW } from "./adamw.js";
import { ADAMW8BIT } from "./adamw8bit.js";
import { GALORE_ADAMW } from "./galore.js";
import { LION } from "./lion.js";
import { MUON } from "./muon.js";
import type { Optimizer } from "./optimizer.js";
import { LOMO, SGD } from "./sgd.js";

export const OPTIMIZERS = [ADAMW, ADAMW8BIT, ADAFACTOR, ADALOMO, LOMO, SGD, GALORE_ADAMW, MUON, LION] as const;

type Entry = (typeof OPTIMIZERS)[number];
export type OptimizerName = Entry["name"];
type Merged<Union> = (Union extends unknown ? (each: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;
type MemoryRows = Merged<NonNullable<Entry["memoryRows"]>>;
type Rows = Merged<Entry["rows"]> & MemoryRows;

/** The settings that only some optimizers have. */
export type OptimizerSettings = SettingsOf<Rows>;

/** The heading of the optimizers' settings in --help and in the docs. */
export const OPTIMIZER_GROUP = "Optimizer";

const inGroup = (rows: SettingRows): SettingRows =>
  Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, { ...row, group: OPTIMIZER_GROUP }]));
const rowsOf = ({ rows, memoryRows }: Entry): SettingRows => ({ ...memoryRows, ...rows });

export const OPTIMIZER_NAMES: readonly OptimizerName[] = OPTIMIZERS.map(({ name }) => name);
/** The rows of all optimizers' settings. */
export const OPTIMIZER_ROWS = inGroup(Object.assign({}, ...OPTIMIZERS.map(rowsOf))) as Rows;
/** Those of them that decide the size of the state. */
export const OPTIMIZER_MEMORY_ROWS = inGroup(
  Object.assign({}, ...OPTIMIZERS.map(({ memoryRows }) => memoryRows)),
) as MemoryRows;

/** For each setting, the optimizers that have it. */
export const OPTIMIZERS_WITH: Readonly<Record<string, readonly OptimizerName[]>> = Object.fromEntries(
  Object.keys(OPTIMIZER_ROWS).map((row) => [
    row,
    OPTIMIZERS.filter((entry) => Object.hasOwn(rowsOf(entry), row)).map(({ name }) => name),
  ]),
);

export const optimizerEntry = (name: OptimizerName): Entry => OPTIMIZERS.find((entry) => entry.name === name) as Entry;

const DEFAULTS = Object.fromEntries(
  Object.entries<SettingRow>(OPTIMIZER_ROWS).map(([name, row]) => [name, row.default]),
) as OptimizerSettings;

/**
 * Makes an optimizer from settings, named as those of `train`. A missing one has its default; `weight_decay` is then 0.
 * `productDtype` is the dtype of the optimizer's own matrix products.
 */
export function makeOptimizer(
  settings: Partial<OptimizerSettings> & { optimizer: OptimizerName; weight_decay?: number },
  productDtype: DType = "float32",
): Optimizer {
  return optimizerEntry(settings.optimizer).make({ weight_decay: 0, ...DEFAULTS, ...settings }, productDtype);
}

/** "adamw 8, sgd and muon 4". */
export const stateBytesInWords = (): string =>
  grouped(({ stateBytes }) => stateBytes)
    .map(([bytes, names]) => `${names} ${bytes}`)
    .join(", ");

/** "1e-5 to 2e-5 with adamw and muon, 1e-2 to 1e-1 with lomo": from the lowest rate to the highest. */
export const goodRatesInWords = (): string =>
  grouped(({ goodRates }) => goodRates.map((rate) => rate.toExponential()).join(" to "))
    .sort(([a], [b]) => Number.parseFloat(a) - Number.parseFloat(b))
    .map(([rates, names]) => `${rates} with ${names}`)
    .join(", ");

/** Groups optimizers by what `words` says of them: pairs of these words and their names, "a, b and c". */
function grouped(words: (entry: Entry) => string): [string, string][] {
  const groups = new Map<string, string[]>();
  for (const entry of OPTIMIZERS) groups.set(words(entry), [...(groups.get(words(entry)) ?? []), entry.name]);
  return [...groups].map(([key, names]) => [key, names.join(", ").replace(/, ([^,]*)$/, " and $1")]);
}
