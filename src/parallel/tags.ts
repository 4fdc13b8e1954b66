// Tags of messages between two ranks: numbers by which what is received is told from what else is on its way. Every pass has its own, so that what a
// pass that was given up has left behind is nothing to the next.

/** By the part and the name of a gradient. */
export interface GradientTags {
  /** Of a sum on its way. */
  sum(part: number, name: string): number;
  /** Of what is whole. */
  whole(part: number, name: string): number;
  /** Of what is measured of a part. */
  measure(part: number): number;
}

const MOST_TAGS = 1 << 18;
/** After so many, tags come again. */
const PASSES = 2 ** 31 / MOST_TAGS;

export const tagsOf =
  (pass: number) =>
  (index: number): number => {
    if (index >= MOST_TAGS) throw new Error(`message ${index} of a pass (at most ${MOST_TAGS})`);
    return (pass % PASSES) * MOST_TAGS + index;
  };

/** Names have to come up in the same order on all ranks. A head that is the embedding is one tensor of two parts. */
export function gradientTags(pass: number): GradientTags {
  const tag = tagsOf(pass);
  const known = new Map<string, number>();
  const numberOf = (part: number, name: string): number => {
    const key = part < 0 ? name : `${part} ${name}`;
    if (!known.has(key)) known.set(key, 2 * known.size);
    return known.get(key) as number;
  };
  return {
    sum: (part, name) => tag(numberOf(part, name)),
    whole: (part, name) => tag(numberOf(part, name) + 1),
    measure: (part) => tag(numberOf(part, `measure ${part}`)),
  };
}
