// All that this process prints, through one owner. Text for people has its control characters made visible, and never
// runs into a progress line that is still open. What cannot be written (a full disk, a reader or a terminal that is
// gone) is dropped, so printing never ends a run. Owns no file.
import { closeSync, writeSync } from "node:fs";
import { isatty } from "node:tty";

import { visibleText } from "../format.js";
import type { Output } from "./output.js";

export interface Terminal {
  out: Output;
  err: Output;
  /**
   * The error code for which something for `out` was dropped; null if nothing was dropped, or if its reader had left.
   */
  lost(): string | null;
}

/** Writes some of the bytes to a file descriptor; returns their number. */
type Write = (fd: number, bytes: Uint8Array) => number;

const CLEAR_LINE = "\x1b[2K";
const OUT = 1;
const ERR = 2;

export function openTerminal(write: Write = writeSync, isTerminal: (fd: number) => boolean = isatty): Terminal {
  const [out, err] = [new Descriptor(OUT, write), new Descriptor(ERR, write)];
  // The stream that has an unfinished line, which its next text will replace or continue.
  let open: Descriptor | null = null;
  const outputOf = (to: Descriptor): Output => {
    const isTTY = isTerminal(to.fd);
    return {
      isTTY,
      get columns(): number | undefined {
        return isTTY ? (to.fd === OUT ? process.stdout : process.stderr).columns : undefined;
      },
      write: (text) => {
        if (open !== null && (open === to || (isTTY && isTerminal(open.fd)))) open.put("\n");
        open = null;
        to.put(visibleText(text));
      },
      endLine: () => {
        if (open === to) to.put("\n");
        open = null;
      },
      raw: (text) => {
        to.put(text);
        open = text.endsWith("\n") || text.endsWith(CLEAR_LINE) ? null : to;
      },
    };
  };
  return { out: outputOf(out), err: outputOf(err), lost: () => out.lost };
}

/**
 * When the process ends, closes terminals that were closed meanwhile: Node aborts if it cannot reset a terminal's
 * modes.
 */
export function forgetClosedTerminal(): void {
  const terminals = [0, OUT, ERR].filter((fd) => isatty(fd));
  process.on("exit", () => {
    for (const fd of terminals) if (!isatty(fd)) closeSync(fd);
  });
}

const TRIES = 100;
const PAUSE_MS = 5;

class Descriptor {
  readonly fd: number;
  readonly #write: Write;
  /** Whether the last text was cut short. */
  #torn = false;
  lost: string | null = null;

  constructor(fd: number, write: Write) {
    this.fd = fd;
    this.#write = write;
  }

  /** Writes the whole text; if that fails, drops the rest. */
  put(text: string): void {
    const bytes = Buffer.from(this.#torn ? `\n${text}` : text);
    let done = 0;
    try {
      for (let tries = 0; done < bytes.length; ) {
        try {
          done += this.#write(this.fd, bytes.subarray(done));
        } catch (failure) {
          if ((failure as NodeJS.ErrnoException).code !== "EAGAIN" || ++tries > TRIES) throw failure;
          pause(PAUSE_MS);
        }
      }
      this.#torn = false;
    } catch (failure) {
      if (done > 0) this.#torn = bytes[done - 1] !== 10;
      const { code = String(failure) } = failure as NodeJS.ErrnoException;
      if (code !== "EPIPE") this.lost ??= code;
    }
  }
}

const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
