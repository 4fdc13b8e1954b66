// The setting `fit` of `train`: the fastest way for which this machine has room; chosen when a run begins, kept when it
// goes on.
import { join } from "node:path";

import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { readGeometry } from "../plan/geometry.js";
import { resolverOf } from "../plan/settings.js";
import { machineOf } from "../plan/ways/machine.js";
import { findWays } from "../plan/ways/ways.js";
import { CHANGED, changesBetween, describeMachine } from "../plan/ways/words.js";
import { readWholeFile, statOf } from "../read-file.js";
import type { TrainSettings } from "../train/settings/settings.js";

/** The settings that the fastest fitting way changes; prints them. Errors: UserError if no way fits. */
export function fitted(
  settings: TrainSettings,
  given: ReadonlySet<string>,
  say: (line: string) => void,
): Partial<TrainSettings> {
  const machine = machineOf({
    gpu: "",
    memory: settings.memory_limit,
    disk: "",
    device: settings.device,
    folder: settings.output_dir,
  });
  const asked = new Set([...given, "device"]);
  const [way] = findWays(resolverOf({ ...settings }, asked), readGeometry(settings), machine, asked);
  if (way === undefined)
    throw new UserError(
      `fit: no way to take a step of rows of ${settings.max_length} tokens fits ${describeMachine(machine)}. ` +
        "Use shorter rows or a smaller model; revmoe plan says what fits where.",
    );
  const change = changesBetween(settings, way.plan.settings);
  const words = Object.entries(change).map(([name, value]) => `${name} ${value}`);
  say(
    `fit: ${words.join(", ") || "as asked"}; ${formatBytes(way.plan.placed.deviceBytes)} planned on ${settings.device}`,
  );
  return { ...change, fit: false };
}

/**
 * What `fitted` chose when the run began; a resumed run keeps it, whatever is free now. Errors: UserError if there is
 * no record of it.
 */
export function fittedBefore({ output_dir }: TrainSettings, given: ReadonlySet<string>): Partial<TrainSettings> {
  const path = join(output_dir, "config.json");
  if (statOf(path) === undefined)
    throw new UserError(
      `fit: ${path}, which says what was chosen, is missing. Give the settings of the run instead of fit.`,
    );
  const recorded = recordedIn(path);
  const chosen = CHANGED.filter((name) => !given.has(name) && Object.hasOwn(recorded, name));
  return { ...Object.fromEntries(chosen.map((name) => [name, recorded[name]])), fit: false };
}

function recordedIn(path: string): Record<string, unknown> {
  const unreadable = new UserError(
    `fit: ${path}, which says what was chosen, is no record of settings. Give the settings of the run instead of fit.`,
  );
  try {
    const recorded: unknown = JSON.parse(readWholeFile(path).toString());
    if (typeof recorded !== "object" || recorded === null || Array.isArray(recorded)) throw unreadable;
    return recorded as Record<string, unknown>;
  } catch (failure) {
    throw failure instanceof SyntaxError ? unreadable : failure;
  }
}
