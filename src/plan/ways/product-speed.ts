// How fast this machine's processor multiplies matrices, by multiplying some. Takes a moment.
import { mm } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { full } from "../../torch/tensor.js";
import type { DType } from "../../torch/types.js";

/** Multiplications and additions a second on the CPU with as many threads as are set; 0 is too slow to wait for. */
export function productFlops(dtype: DType): number {
  return scope(() => {
    const time = (size: number): number => {
      const a = full([size, size], 0.5, dtype);
      const started = performance.now();
      mm(a, a);
      return performance.now() - started;
    };
    // Small products first: they warm up, and tell whether the large one is worth waiting for; several, for a busy machine.
    if (Math.min(...Array.from({ length: 5 }, () => time(256))) > 60) return 0;
    const times: number[] = [];
    for (let spent = 0; spent < 300 && times.length < 20; spent += times.at(-1) as number) times.push(time(1024));
    return (2000 * 1024 ** 3) / Math.min(...times);
  });
}
