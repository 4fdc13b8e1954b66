// A program for tests of locks between processes: takes the lock of a folder, prints "taken" or what is in the way, and
// holds the lock until it is killed or stdin ends.
import { UserError } from "../../errors.js";
import { takeLock } from "./lock.js";

const [dir, at] = process.argv.slice(2);
// All processes that were started together try at the same moment, and sleep until it is near.
const asleep = Number(at) - Date.now() - 50;
if (asleep > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, asleep);
while (Date.now() < Number(at));
try {
  const { note, release } = takeLock(dir);
  console.log(`taken ${note ?? ""}`);
  process.stdin.on("end", release).resume();
} catch (failure) {
  if (!(failure instanceof UserError)) throw failure;
  console.log(failure.message);
}
