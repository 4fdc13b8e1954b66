// A number of bytes as a setting, as 8GiB or 500MB: what its rows have in common. `parseBytes` reads the value.
import { BYTES } from "../format.js";

export const SIZE = {
  kind: "string",
  metavar: "SIZE",
  pattern: BYTES,
  expected: "a size such as 8GiB or 500MB",
} as const;

/** One that may be left out. */
export const SIZE_OR_NONE = { ...SIZE, default: "", pattern: new RegExp(`^$|${BYTES.source}`, BYTES.flags) } as const;
