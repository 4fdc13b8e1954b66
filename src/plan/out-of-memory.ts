// Running out of memory as one sentence: what was being done, what was asked beside what is in use, which settings would fit,
// and where the last checkpoint is.
import { UserError } from "../errors.js";
import { formatBytes, parseBytes } from "../format.js";
import type { Timed } from "../torch/span.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { waysToFit } from "./choose.js";
import type { Plan } from "./plan.js";
import type { Geometry } from "./shadow-step.js";
import { settingWords } from "./words.js";

export interface Circumstances {
  settings: TrainSettings;
  /** Where a model was found, and what was planned, if anything. */
  geometry: Geometry | null;
  plan: Plan | null;
  lastCheckpoint: string | null;
}

/** Whether an error is one of the engine, or of the system, that there is no more memory. */
export function isOutOfMemory(failure: unknown): failure is Error & Timed & { code?: string } {
  if (!(failure instanceof Error)) return false;
  const { code } = failure as { code?: string };
  return (
    code === "OUT_OF_MEMORY" || /out of memory|allocation failed|bad_alloc|can't allocate memory/i.test(failure.message)
  );
}

export function explainOutOfMemory(
  failure: Error & Timed,
  { settings, geometry, plan, lastCheckpoint }: Circumstances,
): UserError {
  const { asked, inUse, free } = figuresOf(failure.message);
  const limit = parseBytes(settings.memory_limit) ?? null;
  const span = failure.span ?? "preparing the run";
  const planned = plan?.spans.find(({ name }) => name === span);
  const figures = [
    ...(asked === null ? [] : [`${formatBytes(asked)} asked`]),
    ...(inUse === null ? [] : [`${formatBytes(inUse)} in use`]),
    ...(free === null ? [] : [`${formatBytes(free)} free`]),
    ...(limit === null
      ? []
      : [
          `${limit - (inUse ?? 0) > 0 ? `${formatBytes(limit - (inUse ?? 0))} free of ` : ""}memory_limit ${settings.memory_limit}`,
        ]),
    ...(planned === undefined ? [] : [`planned to reach ${formatBytes(planned.bytes)}`]),
  ];
  // Without a limit of ours, what was in use when the system refused, and what it says was free, is all there is.
  const room = limit ?? (inUse === null ? null : inUse + (free ?? 0));
  const ways = geometry === null || room === null ? [] : waysToFit(settings, geometry, room);
  const remedy =
    ways.length > 0
      ? `These would fit: ${ways.map(({ change, plan: way }) => `${settingWords(change)} (${formatBytes(way.terms.peakBytes)})`).join("; or ")}.`
      : "Use a smaller model, fewer tokens or more memory; revmoe plan says what fits.";
  const rest =
    lastCheckpoint === null
      ? "No checkpoint was written yet."
      : `${lastCheckpoint} is whole: go on from it with resume: latest.`;
  const told = figures.length === 0 ? firstLine(failure.message) : figures.join(", ");
  return new UserError(`${settings.device}: out of memory in ${span} (${told}). ${remedy} ${rest}`);
}

const firstLine = (message: string): string => message.split("\n")[0].slice(0, 200);

/** Bytes in the words of our allocator on the CPU, or of libtorch's on CUDA. */
function figuresOf(message: string): { asked: number | null; inUse: number | null; free: number | null } {
  const own = /refused (\d+) bytes; (\d+) bytes are in use/.exec(message);
  if (own) return { asked: Number(own[1]), inUse: Number(own[2]), free: null };
  const size = (pattern: RegExp): number | null => {
    const found = pattern.exec(message);
    return found === null ? null : (parseBytes(found[1]) ?? null);
  };
  return {
    asked: size(/Tried to allocate ([\d.]+ [KMG]iB)/),
    inUse: size(/([\d.]+ [KMG]iB) (?:is |already )allocated/),
    free: size(/([\d.]+ [KMG]iB) is free/),
  };
}
