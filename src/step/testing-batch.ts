// For tests of steps: batches of random tokens, the same each time.
import { type Batch, NO_LABEL } from "../data/batches.js";

/** Packed documents of random tokens; the last label of each is not trained, nor is every fifth. */
export function randomBatch(segments: number[], seed: number, vocabulary = 97): Batch {
  const length = segments.reduce((sum, size) => sum + size, 0);
  const tokens = Int32Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) ^ (seed * 7919)) >>> 7).map(
    (value) => Math.abs(value) % vocabulary,
  );
  const labels = new Int32Array(length).fill(NO_LABEL);
  const positions = new Int32Array(length);
  let start = 0;
  for (const size of segments) {
    for (let i = 0; i < size; i++) {
      positions[start + i] = i;
      if (i + 1 < size && (start + i) % 5 !== 0) labels[start + i] = tokens[start + i + 1];
    }
    start += size;
  }
  return { tokens, labels, positions, segments, trainedTokens: labels.filter((label) => label >= 0).length };
}
