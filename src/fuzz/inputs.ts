// Input number N of a reader: the same on every machine and in every process.
import { UserError } from "../errors.js";
import { Random } from "./random.js";
import type { Reader } from "./reader.js";
import { READERS } from "./registry.js";

/** The first inputs are the seeds themselves, which must be accepted; the others are mutated. */
export function inputOf(reader: Reader, seeds: Uint8Array[], seed: number, index: number): Uint8Array {
  if (index < seeds.length) return seeds[index];
  const random = new Random(seed, READERS.indexOf(reader) * 2 ** 32 + index);
  return reader.mutate(random.pick(seeds), random);
}

export function readerNamed(name: string): Reader {
  const found = READERS.find((reader) => reader.name === name);
  if (found) return found;
  throw new UserError(
    `--reader ${name}: there is no such reader (expected ${READERS.map((reader) => reader.name).join(", ")}).`,
  );
}
