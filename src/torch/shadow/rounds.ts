// Counts many rounds of the same work by running a few. The third round stands for all rounds like it except the last:
// while it runs, what it makes and frees counts once; when it ends, what it has left behind counts once for each of
// those rounds. The other rounds that run, among them the first and the last of those that are alike, run at the totals
// that they really meet. So the highest total, in every span, is one of theirs.
import { accounts, type Account } from "./account.js";
import { representing } from "./values.js";

/** The first, second and third; the last of those like them; the last two, which may differ. */
const WALKED = 6;

/** Rounds that should be alike are not: everything has to be counted again, round by round. */
export class UnlikeRounds extends Error {}

/** Runs every round. */
export function everyRound(count: number, work: (round: number) => void): void {
  for (let round = 0; round < count; round++) work(round);
}

/** Runs at most six of them. Throws UnlikeRounds if the second and the third differ. */
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

/** For a device: what a round has left behind, and its peak above the total at which it began. */
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
