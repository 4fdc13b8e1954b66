// The residual streams of a reversible network and their arithmetic. On an integer grid (int32 with 16 fractional bits,
// or int64 with 32) a branch output is rounded once and added as a whole number, so subtracting it again restores every
// bit. Float streams are the plain alternative, with an error that grows with depth.
export { keptBits, MOST_BITS, packBits, storedBits, unpackBits } from "./streams/bits.js";
export { floatStreams } from "./streams/float.js";
export type { Factor, StreamFormat, Watch } from "./streams/format.js";
export { fittingFractionBits, gridStreams } from "./streams/grid.js";
