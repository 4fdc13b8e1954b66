// How fast this machine's processor multiplies matrices, by multiplying some. Takes a moment, once for a process.
import { engineInfo } from "../../torch/device.js";
import { mm } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { full } from "../../torch/tensor.js";
import type { DType } from "../../torch/types.js";

/** By dtype and threads. */
const measured = new Map<string, number>();

/** Multiplications and additions a second on the CPU with as many threads as are set; 0 is too slow to wait for. */
export function productFlops(dtype: DType): number {
  const key = `${dtype} ${engineInfo().threads}`;
  const known = measured.get(key) ?? measure(dtype);
  measured.set(key, known);
  return known;
}

const measure = (dtype: DType): number =>
  scope(() => {
    const time = (size: number): number => {
      const a = full([size, size], 0.5, dtype);
      const started = performance.now();
      mm(a, a);
      return performance.now() - started;
    };
    // Small products first: they warm up, and tell whether the large one is worth waiting for; several, for a busy machine.
    if (Math.min(...Array.from({ length: 5 }, () => time(256))) > 60) return 0;
    const times: number[] = [];
    for (let spent = 0; spent < 150 && times.length < 10; spent += times.at(-1) as number) times.push(time(1024));
    return (2000 * 1024 ** 3) / Math.min(...times);
  });
