// The ledger of bytes: live bytes on each device, the highest total, and the highest total of each span of the work.
import { UserError } from "../../errors.js";
import { deviceIndex, isCpu } from "../device-name.js";
import { currentSpan } from "../span.js";

export class Account {
  liveBytes = 0;
  peakBytes = 0;
  blocks = 0;
  /** For each span, the highest total during it. */
  readonly spans = new Map<string, number>();
  #highest = 0;

  change(bytes: number): void {
    this.grow(bytes);
    this.blocks += Math.sign(bytes);
    if (bytes <= 0) return;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    this.#highest = Math.max(this.#highest, this.liveBytes);
    const span = currentSpan();
    if (this.liveBytes > (this.spans.get(span) ?? 0)) this.spans.set(span, this.liveBytes);
  }

  /** Changes the total without noting a peak. */
  grow(bytes: number): void {
    this.liveBytes += bytes;
    if (this.liveBytes > Number.MAX_SAFE_INTEGER) throw beyondCounting();
  }

  resetPeak(): void {
    this.peakBytes = this.liveBytes;
    this.spans.clear();
  }

  /** Starts a new highest total. Returns the argument for `endWindow`. */
  startWindow(): number {
    const before = this.#highest;
    this.#highest = this.liveBytes;
    return before;
  }

  /** The highest total since the window was started. */
  endWindow(before: number): number {
    const highest = this.#highest;
    this.#highest = Math.max(before, highest);
    return highest;
  }
}

/** The error of a plan whose bytes a number no longer represents exactly. */
export const beyondCounting = (): UserError =>
  new UserError(
    "the plan: a step of this model and this work takes more than 8192 TiB, which is beyond counting. Ask for less of either.",
  );

const byDevice = new Map<string, Account>();
export const accounts = (): Iterable<Account> => byDevice.values();

/** The same accounts under all names of their devices. */
const byName = new Map<string, Account>();

/** The account of a device; "cuda" and "cuda:0" are one. */
export function accountOf(device: string): Account {
  const known = byName.get(device);
  if (known !== undefined) return known;
  const key = isCpu(device) ? "cpu" : `cuda:${deviceIndex(device)}`;
  const found = byDevice.get(key) ?? new Account();
  byDevice.set(key, found);
  byName.set(device, found);
  return found;
}

export function clearAccounts(): void {
  byDevice.clear();
  byName.clear();
}
