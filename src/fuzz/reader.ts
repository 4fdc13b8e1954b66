// What the fuzzer knows of a reader: correct inputs to start from, a way to make them wrong, and the call that must
// either accept an input or refuse it with a UserError. Anything else is a finding.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Random } from "./random.js";

export interface Reader {
  name: string;
  /** Correct inputs. */
  seeds(): Uint8Array[];
  /** Makes a wrong input from a correct one. */
  mutate(seed: Uint8Array, random: Random): Uint8Array;
  /** Prepares an empty folder, and returns a function that reads one input there. Called once for many inputs. */
  open(folder: string): (input: Uint8Array) => void | Promise<void>;
  /** Share of inputs compared with other readers, for slow ones; by default 1. */
  share?: number;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A file of the repository; the fuzzer runs in a clone, never in an installed package. */
export const repositoryFile = (path: string): string => join(ROOT, path);
export const readRepositoryFile = (path: string): Uint8Array => readFileSync(repositoryFile(path));

export const bytesOf = (content: unknown): Uint8Array =>
  Buffer.from(typeof content === "string" ? content : JSON.stringify(content));
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");
