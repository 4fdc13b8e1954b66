// As a program: takes the lock of a folder, says "taken" or what is in the way, and holds it until it is killed or stdin
// ends. For tests of locks among processes.
import { UserError } from "../../errors.js";
import { takeLock } from "./lock.js";

const [dir, at] = process.argv.slice(2);
// All who were started together try at one moment: asleep until it is near, so that they are not in one another's way.
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
