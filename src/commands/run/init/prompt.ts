// Questions to a person, one after the other, each with its default. After a wrong answer the person sees the error and
// the question again. On a terminal Ctrl-C and Ctrl-D leave. Answers may also come from a pipe, which must not keep a
// script waiting. Owns the reading of stdin until `close`.
import { homedir } from "node:os";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

import { UserError } from "../../../errors.js";
import { type Output, writeRaw } from "../../../metrics/output.js";

export interface Question<Answer> {
  /** The flag that would answer it, by its setting. */
  flag: string;
  /** One line that says what it is for. */
  about: string;
  /** The answer if nothing is typed; without it, something must be typed. */
  standard?: string;
  /** Errors: a UserError; its message is shown, and the question is asked again. */
  read(text: string): Promise<Answer> | Answer;
}

export interface Asker {
  /** Errors: Left; a UserError if a pipe has no answer. */
  ask<Answer>(question: Question<Answer>): Promise<Answer>;
  close(): void;
}

/** Thrown when the person leaves. */
export class Left extends Error {}

export type Input = NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?(on: boolean): unknown };

export interface AskerOptions {
  intro: string;
  silenceMs?: number;
}

/** How long a pipe may be silent, since a script's stdin is often a pipe in which nothing ever comes. */
const SILENCE_MS = 5000;

/** `intro` is a line before the first question. */
export function openAsker(input: Input, out: Output, { intro, silenceMs = SILENCE_MS }: AskerOptions): Asker {
  let opening = `${intro}\n`;
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

  /** The next line; undefined at the end of all lines. */
  const line = async (): Promise<string | undefined> => {
    const { value, done } = terminal ? await next.next() : await inTime(next.next(), silenceMs);
    return done === true ? undefined : value.trim();
  };
  const typed = async (prompt: string): Promise<string> => {
    // Only during a question; else Ctrl-C would not work while something is computed between two questions.
    input.setRawMode?.(true);
    lines.setPrompt(prompt);
    lines.prompt();
    const text = await line();
    input.setRawMode?.(false);
    if (text !== undefined) return text;
    writeRaw(out, "\n");
    throw new Left();
  };

  return {
    ask: async ({ flag, about, standard, read }) => {
      const prompt = `${flag.slice(2)}${standard === undefined ? "" : ` [${standard}]`}> `;
      for (let again = false; ; again = true) {
        // Without a terminal a question is shown only once it is answered, so a script that forgot a flag gets one
        // sentence.
        const piped = terminal ? undefined : await line();
        if (!terminal && piped === undefined) throw missing(flag);
        if (!again) out.write(`${opening}\n${about}\n`);
        opening = "";
        if (piped !== undefined) out.write(`${prompt}${piped}\n`);
        const text = (piped ?? (await typed(prompt))).replace(/^~(?=\/|$)/, homedir()) || standard;
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

const missing = (flag: string): UserError =>
  new UserError(
    `${flag} is missing (expected as a flag: stdin is no terminal, and no answer comes from it). Give ${flag}, or run this in a terminal.`,
  );

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
