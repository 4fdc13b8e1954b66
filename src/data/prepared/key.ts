// The name of prepared rows in the cache: a digest of all that decides their tokens and which are trained. Files count
// by content: a changed file is prepared anew, a file with only a new date is not.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { hashFiles } from "../../checkpoint/files/hash-file.js";
import type { TokenizerInput } from "./tokenizer-input.js";

export interface Ingredients {
  /** The files with the rows, in order, as the person named them, since places in messages begin with these names. */
  files: readonly string[];
  tokenizer: TokenizerInput;
  /** All else: settings, which part of the rows. It must be JSON; the order of keys does not matter. */
  others: unknown;
}

/** Must be raised when the same rows become other documents, or when the format of their files changes. */
const VERSION = 2;

/** Undefined if a file cannot be read; reading its rows will say why. */
export function cacheKey({ files, tokenizer, others }: Ingredients): string | undefined {
  const digests = hashFiles(files.map((path) => ({ path, kind: "sha256" })));
  if (digests.some((digest) => typeof digest !== "string")) return undefined;
  const read = [...tokenizer.files].map(([name, bytes]) => [name, bytes === undefined ? null : sha256(bytes)]);
  const all = {
    version: VERSION,
    release: release(),
    files,
    digests,
    tokenizer: read,
    today: today(tokenizer),
    others,
  };
  return sha256(sorted(all)).slice(0, 40);
}

/** Versions of this release and of the libraries that render and encode. */
function release(): unknown {
  const { version, dependencies } = JSON.parse(
    readFileSync(new URL("../../../package.json", import.meta.url), "utf8"),
  ) as Record<string, unknown>;
  return { version, dependencies };
}

/** The date, if a template may write it; else empty. */
function today({ files }: TokenizerInput): string {
  const isDated = [...files].some(
    ([name, bytes]) =>
      /\.jinja$|config/.test(name) && bytes !== undefined && Buffer.from(bytes).includes("strftime_now"),
  );
  return isDated ? new Date().toDateString() : "";
}

const sorted = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) =>
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );

const sha256 = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex");
