// What a hub may take before it is given up: a server that never ends, in bytes, in pages or in silence, must not hold a
// person for hours without a word. Owns the timers of one request, until `stop`.
import { UserError } from "../errors.js";
import { formatBytes, formatDuration } from "../format.js";

export interface Limits {
  /** Milliseconds in which an answer's bytes must grow by `leastBytes`, or end. A whole JSON answer must come in this time. */
  silenceMs: number;
  /** Fewer bytes are no progress. */
  leastBytes: number;
  /** Milliseconds without progress before a line says what is waited for. */
  noticeMs: number;
  /** Of one JSON answer. */
  answerBytes: number;
  /** Files, pages and milliseconds of the list of what a repository holds. */
  files: number;
  pages: number;
  listingMs: number;
  /** Longest rest that a hub may ask for. */
  restMs: number;
  /** Largest file that is no weights: configuration, index, tokenizer. */
  sideFileBytes: number;
}

export const LIMITS: Limits = {
  silenceMs: 60_000,
  leastBytes: 2 ** 16,
  noticeMs: 10_000,
  answerBytes: 16 * 2 ** 20,
  files: 100_000,
  pages: 1000,
  listingMs: 600_000,
  restMs: 300_000,
  sideFileBytes: 256 * 2 ** 20,
};

/** The time of day in so many milliseconds, as "14:03:22". */
export const timeIn = (ms: number): string => new Date(Date.now() + ms).toTimeString().slice(0, 8);

/** Aborts a request that makes no progress; before that, says what is waited for. */
export class Patience {
  readonly #abort = new AbortController();
  readonly #limits: Limits;
  readonly #notice: NodeJS.Timeout;
  readonly #end: NodeJS.Timeout;
  readonly #whole: boolean;
  #bytes = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  /** `what` is what is waited for; with `whole`, nothing but the end is progress. */
  constructor(what: string, limits: Limits, { say, whole }: { say: (line: string) => void; whole: boolean }) {
    this.#limits = limits;
    this.#whole = whole;
    const { silenceMs, noticeMs } = limits;
    this.#notice = setTimeout(() => {
      // A slow network is no news each time.
      if (performance.now() - this.#saidAt < silenceMs) return;
      this.#saidAt = performance.now();
      say(
        `waiting for ${what}: ${this.#came()} in ${formatDuration(noticeMs)}; given up at ${timeIn(silenceMs - noticeMs)} unless more comes`,
      );
    }, noticeMs);
    this.#end = setTimeout(
      () => this.#abort.abort(new Error(`${this.#came()} of ${what} in ${formatDuration(silenceMs)}`)),
      silenceMs,
    );
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  arrived(bytes: number): void {
    this.#bytes += bytes;
    if (this.#whole || this.#bytes < this.#limits.leastBytes) return;
    this.#bytes = 0;
    this.#notice.refresh();
    this.#end.refresh();
  }

  stop(): void {
    clearTimeout(this.#notice);
    clearTimeout(this.#end);
  }

  #came(): string {
    return this.#bytes === 0 ? "nothing came" : `only ${formatBytes(this.#bytes)} came`;
  }
}

/** Refuses a further page of a list that does not end: one page too many, one seen before, or too late. */
export function pageGuard(given: string, endpoint: string, { pages, listingMs }: Limits): (url: string) => void {
  const seen = new Set<string>();
  const until = performance.now() + listingMs;
  return (url) => {
    const wrong = seen.has(url)
      ? "comes back to a page it had"
      : seen.size >= pages
        ? `has more than ${pages} pages`
        : performance.now() > until
          ? `took more than ${formatDuration(listingMs)}`
          : undefined;
    if (wrong)
      throw new UserError(
        `${given}: the list of files that ${endpoint} gives ${wrong}. Check HF_ENDPOINT, or try again later.`,
      );
    seen.add(url);
  };
}
