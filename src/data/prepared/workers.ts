// Threads that encode rows, each with its own tokenizer. A thread has few questions at a time and answers them in
// order, so memory is bounded by the number of threads, not of rows. `close` ends threads even at work.
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

import { UserError } from "../../errors.js";
import type { RowFormat } from "../conversations/row-kind.js";
import type { Row } from "../rows.js";
import type { EncodedRows, EncodeSettings, RowCounts } from "./encode-rows.js";
import { type RowMessage, toMessage } from "./row-message.js";
import type { TokenizerInput } from "./tokenizer-input.js";

export interface Work {
  input: TokenizerInput;
  settings: EncodeSettings;
}

export interface Question {
  rows: RowMessage[];
  format: RowFormat;
}

/** Several documents end to end. */
export interface PackedRows {
  lengths: number[];
  places: string[];
  tokens: Int32Array;
  trained: Uint8Array;
  counts: RowCounts;
}

export type Answer = PackedRows | { failure: { message: string; stack: string | undefined; isRefusal: boolean } };

/** Most threads. Each takes the memory of a tokenizer, 100 to 400 MB. */
const MOST_THREADS = 8;
const QUESTIONS_EACH = 2;
/** Memory of a thread; a row of the longest text that is allowed needs about this much. */
const MEGABYTES_EACH = 4096;

export class Workers {
  private readonly threads: Thread[];

  /** `count`: by default the number of processors, at most eight. */
  constructor(work: Work, count = Math.min(availableParallelism(), MOST_THREADS)) {
    this.threads = Array.from({ length: count }, () => new Thread(work));
  }

  /** Number of questions that keeps all threads busy. */
  get room(): number {
    return this.threads.length * QUESTIONS_EACH;
  }

  /** Errors: those of the row, as if it were encoded here; UserError if a thread runs out of memory. */
  encode(rows: Row[], format: RowFormat): Promise<EncodedRows> {
    const idlest = this.threads.reduce((a, b) => (b.asked < a.asked ? b : a));
    return idlest.ask({ rows: rows.map(toMessage), format });
  }

  async close(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.close()));
  }
}

class Thread {
  private readonly worker: Worker;
  private readonly waiting: { resolve: (rows: EncodedRows) => void; reject: (error: unknown) => void }[] = [];
  private failure: unknown;

  constructor({ input, settings }: Work) {
    const work: Work = { input, settings };
    const resourceLimits = { maxOldGenerationSizeMb: MEGABYTES_EACH };
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: work, resourceLimits });
    this.worker.on("message", (answer: Answer) => {
      const asked = this.waiting.shift();
      if ("failure" in answer) asked?.reject(errorOf(answer.failure));
      else asked?.resolve(unpacked(answer));
    });
    this.worker.on("error", (error) => this.fail(nameMemory(error)));
    this.worker.on("exit", () => this.fail(new Error("a thread that prepares rows has ended")));
  }

  get asked(): number {
    return this.waiting.length;
  }

  ask(question: Question): Promise<EncodedRows> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) return reject(this.failure);
      this.waiting.push({ resolve, reject });
      this.worker.postMessage(question);
    });
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    for (const { reject } of this.waiting.splice(0)) reject(this.failure);
  }
}

function errorOf({ message, stack, isRefusal }: { message: string; stack: string | undefined; isRefusal: boolean }) {
  return isRefusal ? new UserError(message) : Object.assign(new Error(message), { stack });
}

function nameMemory(error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).code !== "ERR_WORKER_OUT_OF_MEMORY") return error;
  return new UserError(
    `rows: preparing one takes more than ${MEGABYTES_EACH} MB of memory (expected far less). Split the longest rows.`,
  );
}

export function packed({ documents, counts }: EncodedRows): PackedRows {
  const lengths = documents.map(({ tokens }) => tokens.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const [tokens, trained] = [new Int32Array(total), new Uint8Array(total)];
  let start = 0;
  for (const document of documents) {
    tokens.set(document.tokens, start);
    trained.set(document.trained, start);
    start += document.tokens.length;
  }
  return { lengths, places: documents.map(({ place }) => place), tokens, trained, counts };
}

function unpacked({ lengths, places, tokens, trained, counts }: PackedRows): EncodedRows {
  let start = 0;
  const documents = lengths.map((length, i) => {
    const [from, end] = [start, (start += length)];
    return { tokens: tokens.slice(from, end), trained: trained.slice(from, end), place: places[i] };
  });
  return { documents, counts };
}
