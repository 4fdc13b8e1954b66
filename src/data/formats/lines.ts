// Lines and texts from a stream of bytes. The length of a line is bounded, so a file without line ends, or a compressed
// file of zeros, ends in an error message. The caller owns the results.
import { UserError } from "../../errors.js";
import { FORMAT_LIMITS } from "./limits.js";

const NEWLINE = 10;

/** The lines of a stream without their newlines, numbered from 1. Errors: UserError for a line beyond the limit. */
export async function* linesOf(
  bytes: AsyncIterable<Uint8Array>,
  path: string,
): AsyncGenerator<{ line: Uint8Array; number: number }> {
  let parts: Uint8Array[] = [];
  let held = 0;
  let number = 0;
  for await (const chunk of bytes) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = chunk.subarray(start, end);
      yield { line: parts.length === 0 ? line : Buffer.concat([...parts, line]), number: ++number };
      parts = [];
      held = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    held += chunk.length - start;
    if (held > FORMAT_LIMITS.row) throw tooLong(`${path}:${number + 1}`, "the line");
  }
  if (parts.length > 0) yield { line: Buffer.concat(parts), number: number + 1 };
}

/** A whole stream as one text. Errors: UserError if it is beyond the limit, or not UTF-8. */
export async function wholeText(bytes: AsyncIterable<Uint8Array>, path: string): Promise<string> {
  const parts: Uint8Array[] = [];
  let held = 0;
  for await (const chunk of bytes) {
    parts.push(chunk);
    held += chunk.length;
    if (held > FORMAT_LIMITS.whole) {
      throw new UserError(
        `${path}: more than ${FORMAT_LIMITS.whole} bytes are too many for one text (expected fewer). Split it into rows of a .jsonl file.`,
      );
    }
  }
  return decodeUtf8(Buffer.concat(parts), path);
}

function tooLong(place: string, what: string): UserError {
  return new UserError(
    `${place}: ${what} has more than ${FORMAT_LIMITS.row} bytes (expected fewer in one row). Split the row.`,
  );
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Decodes UTF-8 without its byte-order mark. Errors: UserError that names `place`. */
export function decodeUtf8(bytes: Uint8Array, place: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new UserError(`${place}: the bytes are not UTF-8. Save the file as UTF-8.`);
  }
}
