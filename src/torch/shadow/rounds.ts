// Many rounds of the same work, counted by a few. The third stands for all but the last of those that are like it: while it runs, what
// it makes and frees counts once, and when it ends, what it has left behind is counted as often as there are more of them. The
// others run at the totals that they really meet, the first and the last of those that are alike among them, so that the
// highest total, in every span, is one of theirs.
import { accounts, type Account } from "./account.js";
import { representing } from "./values.js";

/** First, second and third; the last of those like them; the last two, which may be others. */
const WALKED = 6;

/** Rounds that should have been alike are not: everything has to be counted anew, round by round. */
export class UnlikeRounds extends Error {}

/** Runs every round. */
export function everyRound(count: number, work: (round: number) => void): void {
  for (let round = 0; round < count; round++) work(round);
}

/** Runs six of them at most. Throws UnlikeRounds where the second and the third differ. */
export function fewRounds(count: number, work: (round: number) => void): void {
  if (count <= WALKED) {
    everyRound(count, work);
    return;
  }
  work(0);
  const second = changesBy(() => work(1));
  const alike = count - WALKED + 1;
  const third = representing(alike, () => changesBy(() => work(2)));
  if (!isSame(second, third)) throw new UnlikeRounds("internal: rounds that should need the same memory do not");
  for (const [account, { grown }] of third) account.grow((alike - 1) * grown);
  for (let left = 3; left > 0; left--) work(count - left);
}

/** Of a device, what a round has left behind and how high it went, above where it began. */
interface Change {
  grown: number;
  rise: number;
}

function changesBy(work: () => void): Map<Account, Change> {
  const before = [...accounts()].map((account) => ({
    account,
    live: account.liveBytes,
    highest: account.startWindow(),
  }));
  work();
  return new Map(
    before.map(({ account, live, highest }) => [
      account,
      { grown: account.liveBytes - live, rise: account.endWindow(highest) - live },
    ]),
  );
}

const isSame = (a: Map<Account, Change>, b: Map<Account, Change>): boolean =>
  a.size === b.size &&
  [...a].every(([account, { grown, rise }]) => b.get(account)?.grown === grown && b.get(account)?.rise === rise);
