// Every combination of a bench's lists as settings of `train`, whose checks decide what is possible together: for
// instance, the ordinary network has no reversible row and no gamma. Nothing is run here.
import { UserError } from "../errors.js";
import { formatNumber } from "../format.js";
import { ORDINARY } from "../network/description.js";
import { DEFAULT_COUPLING, hasGamma } from "../reversible/couplings/registry.js";
import { METHODS } from "../reversible/methods/registry.js";
import { resolveSettings, type TrainSettings } from "../train/settings/settings.js";
import type { SettingValue } from "../settings/table.js";
import type { BenchSettings } from "./setting-rows.js";

export interface Case {
  method: TrainSettings["method"];
  coupling: TrainSettings["coupling"];
  /** Null if the coupling has none. */
  gamma: number | null;
  optimizer: TrainSettings["optimizer"];
  /** Number of blocks; null: the model's own. */
  layers: number | null;
  settings: TrainSettings;
}

/** The rows in order: depth, length, network, method, optimizer. */
export function casesOf(settings: BenchSettings): Case[] {
  const depths = settings.layers.length > 0 ? settings.layers : [null];
  return depths.flatMap((layers) => settings.max_length.flatMap((maxLength) => casesAt(settings, layers, maxLength)));
}

function casesAt(settings: BenchSettings, layers: number | null, maxLength: number): Case[] {
  const cases = new Map<string, Case>();
  for (const wanted of settings.coupling) {
    for (const method of settings.methods) {
      const coupling = wanted !== "auto" ? wanted : METHODS[method].rebuilds ? DEFAULT_COUPLING : ORDINARY.coupling;
      for (const gamma of settings.gamma) {
        for (const optimizer of settings.optimizer) {
          const resolved = resolve(
            settings,
            maxLength,
            { method, coupling, optimizer },
            { gamma, stream: settings.stream },
          );
          if (resolved === undefined) continue;
          const made = {
            method,
            coupling,
            optimizer,
            layers,
            gamma: hasGamma(coupling) ? resolved.settings.gamma : null,
            settings: resolved.settings,
          };
          cases.set(`${networkKey(made)} ${method} ${optimizer}`, made);
        }
      }
    }
  }
  // Rows of one network follow each other, because they are compared with the same stored gradients.
  const networks = [...new Set([...cases.values()].map(networkKey))];
  return networks.flatMap((key) => [...cases.values()].filter((each) => networkKey(each) === key));
}

/** What decides the function that is trained, beside depth and data. */
export const networkKey = ({ coupling, gamma }: Case): string =>
  gamma === null ? coupling : `${coupling} ${formatNumber(gamma)}`;

/** Settings of `train` with those of `optional` that have an effect; undefined if the fixed ones exclude each other. */
function resolve(
  bench: BenchSettings,
  maxLength: number,
  fixed: Pick<Case, "method" | "coupling" | "optimizer">,
  optional: Record<string, SettingValue>,
): { settings: TrainSettings; used: Set<string> } | undefined {
  const { model, per_device_train_batch_size, gradient_accumulation_steps, weights_dtype, compute_dtype } = bench;
  const { loss_tile_tokens, device, threads, seed, train_file } = bench;
  const common = {
    ...{
      model,
      per_device_train_batch_size,
      gradient_accumulation_steps,
      weights_dtype,
      compute_dtype,
      loss_tile_tokens,
      device,
      threads,
      seed,
    },
    ...{ ...fixed, max_length: maxLength, train_file: train_file || "-", output_dir: "-" },
  };
  const attempt = (flags: Record<string, SettingValue>): TrainSettings | undefined => {
    try {
      return resolveSettings({ flags: { ...common, ...flags } }).settings;
    } catch (failure) {
      if (failure instanceof UserError) return undefined;
      throw failure;
    }
  };
  const used = Object.entries(optional).filter(([name, value]) => attempt({ [name]: value }));
  const settings = attempt(Object.fromEntries(used));
  return settings && { settings, used: new Set(used.map(([name]) => name)) };
}
