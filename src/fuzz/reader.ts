// What the fuzzer knows of a reader: right inputs to start from, how they are made wrong, and the call that must either
// take the result or refuse it with a UserError. Anything else that happens is a finding.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Random } from "./random.js";

export interface Reader {
  name: string;
  /** Right inputs. */
  seeds(): Uint8Array[];
  /** A wrong one of it. */
  mutate(seed: Uint8Array, random: Random): Uint8Array;
  /** Prepares an empty folder, and returns what reads one input there. Made once for many inputs. */
  open(folder: string): (input: Uint8Array) => void | Promise<void>;
  /** Share of the inputs against other readers, where reading is slow; 1 unless given. */
  share?: number;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A file of the repository; the fuzzer runs in a clone, never in an installed package. */
export const repositoryFile = (path: string): string => join(ROOT, path);
export const readRepositoryFile = (path: string): Uint8Array => readFileSync(repositoryFile(path));

export const bytesOf = (content: unknown): Uint8Array =>
  Buffer.from(typeof content === "string" ? content : JSON.stringify(content));
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");
