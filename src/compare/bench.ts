// Compares methods on the same work. Each row has its own process. The rows of one depth and length are alive together
// and take turns, one step each in alternating order, so that a noisy machine disturbs all alike. A row that runs out
// of memory beside others is run again alone; the second result is its status.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openSource } from "../checkpoint/source.js";
import { textConfig } from "../checkpoint/config/text-config.js";
import { readSample } from "../data/conversation.js";
import { openSources } from "../data/sources/open-sources.js";
import { parseSources } from "../data/sources/parse.js";
import { UserError } from "../errors.js";
import { parseBytes } from "../format.js";
import { readArchitecture } from "../families/registry.js";
import { checkDevice } from "../torch/device.js";
import { type Case, casesOf, networkKey } from "./cases.js";
import { addStep, type BenchRow, type Entry, newEntry, setStatus } from "./rows.js";
import type { BenchSettings } from "./settings.js";
import { type Job, readModelConfig, type Start } from "./work.js";
import { OUT_OF_MEMORY, RowFailure, WorkerProcess } from "./worker-process.js";

export interface BenchResult {
  model: string;
  /** Tokens of a step; of the longest one, if max_length is a list. */
  tokens: number;
  rows: BenchRow[];
  device: string;
  /** Number of measured steps of each row. */
  steps: number;
  engine: Start["engine"] | null;
  notes: string[];
}

export interface BenchOptions {
  /** Called when a row has its figures or its failure. */
  onRow?: (row: BenchRow) => void;
  /** Ends the processes; `bench` then throws the signal's reason. */
  signal?: AbortSignal;
}

/** Errors: UserError for what would make every row fail. Any other failure is the status of its row. */
export async function bench(settings: BenchSettings, options: BenchOptions = {}): Promise<BenchResult> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-bench-"));
  try {
    await checkWork(settings);
    return await new Bench(settings, options, join(folder, "gradients")).all(cellsOf(settings));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Errors: UserError, before the first row, for what would make every row fail. */
async function checkWork({ model, layers, device, seed, train_file: file }: BenchSettings): Promise<void> {
  // Checked without opening the device, as the rows are other processes.
  checkDevice(device);
  for (const depth of layers.length > 0 ? layers : [null]) {
    const { source, path, own } = readModelConfig(model, depth);
    readArchitecture(source, path);
    if (own) openSource(model).openWeights().close();
    if (file !== "" && path === model) {
      throw new UserError(
        `train_file: needs a tokenizer, and ${model} is a file by itself. Give the model's folder, or leave train_file out.`,
      );
    }
  }
  if (file === "") return;
  const { batches } = await openSources(parseSources(file), { format: "auto", columns: {}, seed });
  for await (const { rows, format } of batches()) for (const row of rows) readSample(row, format);
}

/** Groups of rows that take turns: those of one depth and length. */
function cellsOf(settings: BenchSettings): Entry[][] {
  const cells = new Map<string, Entry[]>();
  for (const each of casesOf(settings)) {
    const layers =
      each.layers ?? (textConfig(readModelConfig(settings.model, null).source).num_hidden_layers as number);
    const key = `${layers} ${each.settings.max_length}`;
    cells.set(key, [...(cells.get(key) ?? []), newEntry(each, layers)]);
  }
  return [...cells.values()];
}

class Bench {
  readonly #memoryLimitBytes: number | null;
  #engine: Start["engine"] | null = null;
  /** The network whose gradients by method store are in the file, and whether the file has them. */
  #stored = { key: "", there: false };
  /** By network and work: why there are no gradients of method store. */
  readonly #unstored = new Map<string, string>();

  constructor(
    readonly settings: BenchSettings,
    readonly options: BenchOptions,
    readonly path: string,
  ) {
    this.#memoryLimitBytes = parseBytes(settings.memory_limit) ?? null;
  }

  async all(cells: Entry[][]): Promise<BenchResult> {
    for (const cell of cells) {
      await this.#takeTurns(cell);
      const crowded = cell.filter(({ row }) => cell.length > 1 && row.status === OUT_OF_MEMORY);
      for (const entry of crowded) {
        setStatus(entry, "ok");
        this.#stored.key = "";
        await this.#takeTurns([entry]);
      }
      for (const { row } of cell) this.options.onRow?.(row);
    }
    const { model, device, steps } = this.settings;
    const rows = cells.flat().map(({ row }) => row);
    const tokens = Math.max(...rows.map((row) => row.tokens));
    return { model, tokens, rows, device, steps, engine: this.#engine, notes: this.#notes(cells.flat()) };
  }

  /** Starts every row of a cell; then makes one step of each that is not counted, and the measured ones. */
  async #takeTurns(cell: Entry[]): Promise<void> {
    const running = new Map<Entry, WorkerProcess>();
    const turn = async (entry: Entry, take: (worker: WorkerProcess) => Promise<void>): Promise<void> => {
      const worker = running.get(entry) as WorkerProcess;
      try {
        await take(worker);
      } catch (failure) {
        if (!(failure instanceof RowFailure)) throw failure;
        setStatus(entry, failure.message);
        running.delete(entry);
        await worker.end();
      }
      this.options.signal?.throwIfAborted();
    };
    try {
      for (const entry of cell) {
        const compare = this.settings.gradients && (await this.#storedGradients(entry));
        running.set(entry, new WorkerProcess(this.options));
        await turn(entry, async (worker) => {
          const { engine, gradRelativeError } = await worker.start(this.#job(entry.case, compare ? "compare" : null));
          this.#engine ??= engine;
          await worker.step();
          entry.row.gradRelativeError = gradRelativeError;
        });
      }
      for (let step = 0; step < this.settings.steps; step++) {
        for (const entry of step % 2 === 0 ? cell : cell.toReversed()) {
          if (!running.has(entry)) continue;
          await turn(entry, async (worker) => {
            const { figures, rssPeakBytes } = await worker.step();
            addStep(entry, figures, rssPeakBytes);
          });
        }
      }
    } finally {
      await Promise.all([...running.values()].map((worker) => worker.end()));
    }
  }

  #job({ settings, layers }: Case, action: "write" | "compare" | null): Job {
    return {
      settings,
      layers,
      gradients: action && { path: this.path, action },
      memoryLimitBytes: this.#memoryLimitBytes,
    };
  }

  /**
   * Writes the gradients of method store, unless the file has those of this row's network; returns whether it has them
   * now.
   */
  async #storedGradients(entry: Entry): Promise<boolean> {
    const key = workOf(entry);
    if (this.#stored.key === key) return this.#stored.there;
    this.#stored = { key, there: false };
    const store: Case = { ...entry.case, settings: { ...entry.case.settings, method: "store" } };
    const worker = new WorkerProcess(this.options);
    try {
      await worker.start({ ...this.#job(store, "write"), memoryLimitBytes: null }); // it is the measure, not what is measured
      this.#stored.there = true;
    } catch (failure) {
      if (!(failure instanceof RowFailure)) throw failure;
      this.#unstored.set(key, failure.message);
    } finally {
      await worker.end();
    }
    return this.#stored.there;
  }

  #notes(entries: Entry[]): string[] {
    const unsure = entries.filter(
      ({ row }) => this.settings.gradients && row.status === "ok" && row.gradRelativeError === null,
    );
    return [...new Set(unsure.map(workOf))].map(
      (work) => `${work}: there are no gradients to compare with, method store: ${this.#unstored.get(work)}`,
    );
  }
}

/** What decides a gradient: "24 blocks, rows of 512 tokens, momentum 0.25". */
const workOf = ({ case: each, row }: Entry): string =>
  `${row.layers} blocks, rows of ${row.maxLength} tokens, ${networkKey(each)}`;
