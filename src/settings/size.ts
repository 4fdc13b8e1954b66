// What all settings share whose value is a number of bytes, such as 8GiB or 500MB. `parseBytes` reads the value.
import { BYTES } from "../format.js";

export const SIZE = {
  kind: "string",
  metavar: "SIZE",
  pattern: BYTES,
  expected: "a size such as 8GiB or 500MB",
} as const;

/** A size that may be left out. */
export const SIZE_OR_NONE = { ...SIZE, default: "", pattern: new RegExp(`^$|${BYTES.source}`, BYTES.flags) } as const;
