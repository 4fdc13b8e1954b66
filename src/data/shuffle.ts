// Seeded random orders that are the same on every machine. An order depends on (seed, stream) alone, so epoch 7 needs
// no epochs 0 to 6. Not for cryptography, and separate from the engine's generator.

/** Returns the next whole number in [0, 2^32). */
export type Generator32 = () => number;

/** xoshiro128** of Blackman and Vigna (2018), from four 32-bit words that are not all zero. */
export function xoshiro128(state: readonly [number, number, number, number]): Generator32 {
  let [a, b, c, d] = state;
  return () => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotate(d, 11);
    return result;
  };
}

/** A generator for one stream of a seed; streams of one seed are unrelated. Both are whole numbers up to 2^53. */
export function seededGenerator(seed: number, stream: number): Generator32 {
  const words = [seed, stream].flatMap((value) => [value >>> 0, Math.floor(value / 2 ** 32) >>> 0]);
  let hash = 0;
  for (const word of words) hash = mix(hash ^ word);
  const next = (): number => (hash = mix(hash));
  return xoshiro128([next(), next(), next(), next() | 1]);
}

/** The numbers 0 to length - 1 in an order drawn evenly from all orders (Fisher-Yates). The caller owns it. */
export function permutation(length: number, seed: number, stream: number): Int32Array {
  const order = Int32Array.from({ length }, (_, i) => i);
  const next = seededGenerator(seed, stream);
  for (let i = length - 1; i > 0; i--) {
    const j = below(i + 1, next);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Even over [0, bound): draws that would favour small numbers are repeated. */
function below(bound: number, next: Generator32): number {
  const even = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const draw = next();
    if (draw < even) return draw % bound;
  }
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** A step by the golden ratio, then the finaliser of MurmurHash3: neighbouring inputs give unrelated words. */
function mix(word: number): number {
  let z = (word + 0x9e3779b9) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return z ^ (z >>> 16);
}
