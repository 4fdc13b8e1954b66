// A step's kernels as tables, grouped by purpose, which follows from their names. profile.mjs has their times.
import { readFileSync, readdirSync } from "node:fs";

/** @typedef {import("./profile.mjs").Kernel} Kernel */

/** Names of kernels that REVMOE_KERNEL defines. */
function ownNames() {
  const folder = new URL("../../native/kernels/", import.meta.url);
  const texts = readdirSync(folder).filter((name) => name.endsWith(".h"));
  return texts.flatMap((name) =>
    [...readFileSync(new URL(name, folder), "utf8").matchAll(/^REVMOE_KERNEL\((\w+)/gm)].map(([, kernel]) => kernel),
  );
}

/** The first group that matches counts. A name may be followed by its arguments. */
const GROUPS = [
  ["flash attention", /flash/i],
  ["products (cuBLAS, CUTLASS)", /gemm|gemv|cutlass|cublas|nvjet|xmma|splitk|grouped_mm/i],
  ["sorting and scans (CUB)", /radix|cub::|sort|scan/i],
  ["ATen: reductions", /at::native.*reduce/i],
  ["ATen: copies and casts", /at::native.*(copy|cast|CatArray|fill|FillFunctor)/i],
  ["ATen: element by element", /at::native.*(elementwise|vectorized)/i],
  ["ATen: other", /at::native|at::cuda/i],
];

/** @param {string} name @param {ReadonlySet<string>} own */
export function groupOf(name, own = new Set(ownNames())) {
  if (own.has(name.replace(/\(.*$/s, ""))) return "our kernels";
  return GROUPS.find(([, pattern]) => /** @type {RegExp} */ (pattern).test(name))?.[0] ?? "other";
}

/**
 * Tables: by group; our kernels, and the longest of the others; calls in which the program waited. `idle`: time in
 * which the GPU had nothing to do before the kernel.
 * @param {Kernel[]} all
 */
export function describeStep(all) {
  const own = new Set(ownNames());
  const kernels = all.filter(({ isCall }) => !isCall);
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  const row = ({ name, launches, ms, idleMs = 0 }) =>
    `| ${name} | ${Math.round(launches)} | ${ms.toFixed(3)} | ${((100 * ms) / total).toFixed(1)} % | ${idleMs.toFixed(3)} |`;
  const joined = (name, some) => ({
    name,
    launches: some.reduce((sum, { launches }) => sum + launches, 0),
    ms: some.reduce((sum, { ms }) => sum + ms, 0),
    idleMs: some.reduce((sum, { idleMs = 0 }) => sum + idleMs, 0),
  });
  const names = [...new Set(kernels.map(({ name }) => groupOf(name, own)))];
  const groups = names.map((name) =>
    joined(
      name,
      kernels.filter((kernel) => groupOf(kernel.name, own) === name),
    ),
  );
  const short = (kernel) => ({ ...kernel, name: kernel.name.replaceAll("|", "/").slice(0, 100) });
  const ours = kernels.filter(({ name }) => groupOf(name, own) === "our kernels");
  const others = kernels.filter((kernel) => !ours.includes(kernel)).slice(0, 20);
  return [
    "| group | launches a step | ms a step | share | idle, ms |",
    "| --- | ---: | ---: | ---: | ---: |",
    ...groups.sort((a, b) => b.ms - a.ms).map(row),
    row(joined("all", kernels)),
    "",
    "| kernel | launches a step | ms a step | share | idle, ms |",
    "| --- | ---: | ---: | ---: | ---: |",
    ...[...ours, ...others].map(short).map(row),
    "",
    ...all
      .filter(({ isCall }) => isCall)
      .slice(0, 5)
      .map(({ name, launches, ms }) => `The program waited ${ms.toFixed(1)} ms in ${Math.round(launches)} ${name}.`),
  ].join("\n");
}
