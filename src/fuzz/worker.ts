// A process that feeds one reader with inputs FIRST to END - 1. Any input may kill it, so it first writes the input's
// number to a small file, and the supervisor can continue after it. Findings are lines of a second file.
import { appendFileSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../errors.js";
import { describeFailure, type Finding, LIMIT_BYTES, LIMIT_MS, PROGRESS_BYTES, type Progress } from "./finding.js";
import { inputOf, readerNamed } from "./inputs.js";

async function work(name: string, seed: number, first: number, end: number, folder: string): Promise<void> {
  const reader = readerNamed(name);
  const seeds = reader.seeds();
  const place = join(folder, "input");
  mkdirSync(place, { recursive: true });
  const read = reader.open(place);
  const file = openSync(join(folder, "progress"), "w");
  const progress: Progress = { index: first, accepted: 0, refused: 0, slowestMs: 0, peakBytes: 0 };
  const tell = (): void => void writeSync(file, JSON.stringify(progress).padEnd(PROGRESS_BYTES), 0);
  const report = (kind: Finding["kind"], what: string): void =>
    appendFileSync(
      join(folder, "findings"),
      `${JSON.stringify({ reader: name, index: progress.index, kind, what } satisfies Finding)}\n`,
    );
  for (; progress.index < end; progress.index++) {
    tell();
    const input = inputOf(reader, seeds, seed, progress.index);
    const started = performance.now();
    try {
      await read(input);
      progress.accepted++;
    } catch (failure) {
      if (failure instanceof UserError) progress.refused++;
      else report("raw error", describeFailure(failure));
    }
    const took = performance.now() - started;
    if (took > LIMIT_MS) report("hang", `took ${(took / 1000).toFixed(1)} s`);
    progress.slowestMs = Math.max(progress.slowestMs, took);
    progress.peakBytes = process.resourceUsage().maxRSS * 1024;
    if (progress.peakBytes > LIMIT_BYTES) {
      report("memory", `${(progress.peakBytes / 2 ** 30).toFixed(1)} GiB`);
      progress.index++;
      break;
    }
  }
  tell();
}

const [name, seed, first, end, folder] = process.argv.slice(2);
if (folder !== undefined) await work(name, Number(seed), Number(first), Number(end), folder);
