// Questions to a person, one after the other, each with its default. A wrong answer gets its sentence and the question again. On a terminal
// Ctrl-C and Ctrl-D leave; answers may also come from a pipe, which must not keep a script waiting. Owns the reading of stdin until `close`.
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

import { UserError } from "../../../errors.js";
import { type Output, writeRaw } from "../../../metrics/output.js";

export interface Question<Answer> {
  /** The setting it stands for, and the flag that answers it. */
  flag: string;
  /** One line: what it is for. */
  about: string;
  /** Taken when nothing is typed; without one, something must be. */
  standard?: string;
  /** Errors: a UserError, whose sentence is shown before it is asked again. */
  read(text: string): Promise<Answer> | Answer;
}

export interface Asker {
  /** Errors: Left; a UserError where a pipe has no answer. */
  ask<Answer>(question: Question<Answer>): Promise<Answer>;
  close(): void;
}

/** The person has left. */
export class Left extends Error {}

export type Input = NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?(on: boolean): unknown };

/** How long a pipe may be silent: a script's stdin is often one in which nothing ever comes. */
const SILENCE_MS = 5000;

export function openAsker(input: Input, out: Output, silenceMs = SILENCE_MS): Asker {
  const terminal = input.isTTY === true;
  const shown = new Writable({
    write: (chunk: Buffer, _, done) => {
      writeRaw(out, chunk.toString());
      done();
    },
  });
  const lines = createInterface({ input, output: Object.assign(shown, { columns: out.columns }), terminal });
  const next = lines[Symbol.asyncIterator]();
  lines.on("SIGINT", () => lines.close());

  const line = async (flag: string): Promise<string> => {
    // Only while something is asked: else Ctrl-C would wait for what is computed between two questions.
    if (terminal) input.setRawMode?.(true);
    lines.prompt();
    const { value, done } = terminal ? await next.next() : await inTime(next.next(), silenceMs);
    if (terminal) input.setRawMode?.(false);
    if (done !== true) {
      if (!terminal) writeRaw(out, `${value}\n`);
      return value.trim();
    }
    writeRaw(out, "\n");
    if (terminal) throw new Left();
    throw new UserError(
      `${flag} is missing (expected it as a flag: stdin is no terminal, and no answer came from it). Give ${flag}, or run this in a terminal.`,
    );
  };

  return {
    ask: async ({ flag, about, standard, read }) => {
      out.write(`\n${about}\n`);
      lines.setPrompt(`${flag.slice(2)}${standard === undefined ? "" : ` [${standard}]`}> `);
      for (;;) {
        const text = (await line(flag)) || standard;
        try {
          if (text === undefined) throw new UserError(`${flag.slice(2)}: nothing was typed (expected an answer).`);
          return await read(text);
        } catch (failure) {
          if (!(failure instanceof UserError)) throw failure;
          out.write(`  ${failure.message}\n`);
        }
      }
    },
    close: () => lines.close(),
  };
}

async function inTime(
  next: Promise<IteratorResult<string>>,
  silenceMs: number,
): Promise<IteratorResult<string, undefined>> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<IteratorReturnResult<undefined>>((resolve) => {
    timer = setTimeout(() => resolve({ done: true, value: undefined }), silenceMs);
  });
  const first = await Promise.race([next, silence]);
  clearTimeout(timer);
  return first as IteratorResult<string, undefined>;
}
