// Tags of messages between two ranks: numbers by which what is received is told from what else is on its way. Every pass has its own, so that what a
// pass that was given up has left behind is nothing to the next.

const MOST_TAGS = 1 << 18;
/** After so many, tags come again. */
const PASSES = 2 ** 31 / MOST_TAGS;

export const tagsOf =
  (pass: number) =>
  (index: number): number => {
    if (index >= MOST_TAGS) throw new Error(`message ${index} of a pass (at most ${MOST_TAGS})`);
    return (pass % PASSES) * MOST_TAGS + index;
  };
