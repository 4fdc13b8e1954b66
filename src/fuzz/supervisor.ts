// Watches the process that feeds a reader: kills it if an input takes too long or too much memory, notes when it dies,
// and starts another after the input at fault. Results are exact counts: the file of a killed worker says how far it
// was.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { type Finding, LIMIT_BYTES, LIMIT_MS, type Progress } from "./finding.js";
import { inputOf } from "./inputs.js";
import type { Reader } from "./reader.js";

const WORKER = fileURLToPath(new URL("worker.js", import.meta.url));
const POLL_MS = 100;
/** Time to load the engine and the reader's seeds. */
const START_MS = 60_000;

export interface Counts {
  reader: string;
  inputs: number;
  accepted: number;
  refused: number;
  found: Record<Finding["kind"], number>;
  peakBytes: number;
  slowestMs: number;
}

export interface Fuzzing {
  seed: number;
  inputs: number;
  /** The folder for one input of each different finding. */
  corpus: string;
}

/** Feeds `reader` with inputs; calls `tell` with each finding at once. */
export async function fuzz(
  reader: Reader,
  { seed, inputs, corpus }: Fuzzing,
  tell: (finding: Finding) => void,
): Promise<Counts> {
  const found = { "raw error": 0, hang: 0, crash: 0, memory: 0 };
  const counts: Counts = { reader: reader.name, inputs, accepted: 0, refused: 0, found, peakBytes: 0, slowestMs: 0 };
  const kept = new Set<string>();
  const seeds = reader.seeds();
  const note = (finding: Finding): void => {
    found[finding.kind]++;
    const key = `${finding.kind} ${finding.kind === "raw error" ? finding.what : ""}`;
    if (kept.has(key)) return;
    kept.add(key);
    keep(corpus, finding, inputOf(reader, seeds, seed, finding.index), kept.size);
    tell(finding);
  };
  for (let first = 0; first < inputs; ) {
    const { progress, findings, died } = await watch(reader.name, seed, first, inputs);
    for (const finding of findings) note(finding);
    if (died) note({ reader: reader.name, index: progress.index, ...died });
    counts.accepted += progress.accepted;
    counts.refused += progress.refused;
    counts.peakBytes = Math.max(counts.peakBytes, progress.peakBytes);
    counts.slowestMs = Math.max(counts.slowestMs, progress.slowestMs);
    first = progress.index + (died ? 1 : 0);
  }
  return counts;
}

interface Watched {
  progress: Progress;
  findings: Finding[];
  /** Why the worker died, if it did not end by itself. */
  died?: Pick<Finding, "kind" | "what">;
}

async function watch(name: string, seed: number, first: number, end: number): Promise<Watched> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-fuzz-"));
  try {
    const worker = spawn(process.execPath, [WORKER, name, String(seed), String(first), String(end), folder], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let words = "";
    worker.stderr.setEncoding("utf8").on("data", (text: string) => (words = (words + text).slice(-4000)));
    const died = await untilItEnds(worker, folder);
    const progress = readProgress(folder);
    if (progress === null) throw new Error(`the worker for ${name} did not start: ${words}`);
    const lines = existsSync(join(folder, "findings"))
      ? readFileSync(join(folder, "findings"), "utf8").trim().split("\n")
      : [];
    if (died) progress.slowestMs = Math.max(progress.slowestMs, died.kind === "hang" ? LIMIT_MS : 0);
    return { progress, findings: lines.map((line) => JSON.parse(line) as Finding), died };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function untilItEnds(worker: ChildProcess, folder: string): Promise<Watched["died"]> {
  const ended = new Promise<void>((resolve) => worker.once("close", () => resolve()));
  let isOver = false;
  void ended.then(() => (isOver = true));
  let index = -1;
  let since = performance.now();
  let died: Watched["died"];
  while (!isOver) {
    await Promise.race([ended, sleep(POLL_MS)]);
    if (isOver) break;
    const at = readProgress(folder)?.index ?? -1;
    if (at !== index) [index, since] = [at, performance.now()];
    const bytes = residentBytes(worker.pid as number);
    if (bytes > LIMIT_BYTES) died = { kind: "memory", what: `${(bytes / 2 ** 30).toFixed(1)} GiB and growing` };
    else if (performance.now() - since > (index < 0 ? START_MS : LIMIT_MS + POLL_MS))
      died = { kind: "hang", what: `more than ${LIMIT_MS / 1000} s` };
    if (died) {
      worker.kill("SIGKILL");
      await ended;
      return died;
    }
  }
  if (worker.exitCode === 0) return undefined;
  return { kind: "crash", what: worker.signalCode ?? `exit code ${worker.exitCode}` };
}

function readProgress(folder: string): Progress | null {
  try {
    return JSON.parse(readFileSync(join(folder, "progress"), "utf8")) as Progress;
  } catch {
    return null; // does not exist yet, or is being written
  }
}

function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function keep(corpus: string, { reader, index, kind, what }: Finding, input: Uint8Array, number: number): void {
  const folder = join(corpus, reader.replaceAll(/[^\w.]+/g, "-"));
  mkdirSync(folder, { recursive: true });
  const name = `${String(number).padStart(2, "0")}-${kind.replace(" ", "-")}`;
  writeFileSync(join(folder, name), input);
  writeFileSync(join(folder, `${name}.txt`), `input ${index}: ${what}\n`);
}
