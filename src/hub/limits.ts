// How much a hub may take before it is given up. A server that sends bytes, pages or silence without end must not hold
// a person for hours without a message. Owns the timers of one request, until `stop`.
import { UserError } from "../errors.js";
import { formatBytes, formatDuration } from "../format.js";

export interface Limits {
  /**
   * In this many milliseconds an answer must grow by `leastBytes`, or end. A whole JSON answer must come in this time.
   */
  silenceMs: number;
  /** Fewer bytes do not count as progress. */
  leastBytes: number;
  /** Milliseconds without progress before a message says what is waited for. */
  noticeMs: number;
  /** Most bytes of one JSON answer. */
  answerBytes: number;
  /** Most files, pages and milliseconds of a repository's list of files. */
  files: number;
  pages: number;
  listingMs: number;
  /** Longest pause that a hub may ask for. */
  restMs: number;
  /** Most bytes of a file that is not weights: configuration, index, tokenizer. */
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

/** The time of day in `ms` milliseconds, as "14:03:22". */
export const timeIn = (ms: number): string => new Date(Date.now() + ms).toTimeString().slice(0, 8);

/** Aborts a request that makes no progress; before that, prints what is waited for. */
export class Patience {
  readonly #abort = new AbortController();
  readonly #limits: Limits;
  readonly #notice: NodeJS.Timeout;
  readonly #end: NodeJS.Timeout;
  readonly #whole: boolean;
  #bytes = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  /** `what` is waited for; with `whole`, only the end counts as progress. */
  constructor(what: string, limits: Limits, { say, whole }: { say: (line: string) => void; whole: boolean }) {
    this.#limits = limits;
    this.#whole = whole;
    const { silenceMs, noticeMs } = limits;
    this.#notice = setTimeout(() => {
      // With a slow network, the message is not repeated each time.
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

/** Refuses another page of an endless list: one page too many, a page seen before, or a page that is too late. */
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
