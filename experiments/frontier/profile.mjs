// Time on a GPU by kernel, by Nsight Systems (nsys) or Nsight Compute (ncu), whichever is there: a program runs with one step and with three, and
// the difference is two steps, without what making the model launched. ncu runs kernels one by one, so its sum is what the kernels alone
// take, without gaps and overlap. Its clocks are left as they are.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** @typedef {{ name: string, launches: number, ms: number }} Kernel sums over a run, or of a step */
/** @typedef {(file: string, command: string[]) => Kernel[]} Profiler runs a command; its files begin with `file` */

const run = (program, args) => {
  const ended = spawnSync(program, args, { encoding: "utf8", maxBuffer: 2 ** 30 });
  if (ended.status === 0) return ended.stdout;
  throw new Error(`${program}: ${(ended.error?.message ?? `${ended.stdout}${ended.stderr}`).trim().slice(-1500)}`);
};

const MS = { ns: 1e-6, nsecond: 1e-6, us: 1e-3, usecond: 1e-3, ms: 1, msecond: 1, s: 1e3, second: 1e3 };
const numberOf = (text) => Number(text.replaceAll(",", ""));

/** Rows of a table with commas, behind other lines, as records by the names in its first. @param {string} text @param {RegExp} start */
function table(text, start) {
  const [names, ...rows] = text
    .slice(Math.max(0, text.search(start)))
    .split(/\r?\n/)
    .filter(Boolean)
    .map((line) => [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)])
    .map((cells) => cells.map(([, quoted, plain]) => (quoted === undefined ? plain : quoted.replaceAll('""', '"'))));
  return rows.map((row) => Object.fromEntries(row.map((cell, i) => [names[i], cell])));
}

/** Of Nsight Compute: a line a launch. @param {string} text @returns {Kernel[]} */
export const readLaunches = (text) =>
  table(text, /^"ID"/m)
    .filter((row) => row["Metric Name"] === "gpu__time_duration.sum")
    .map((row) => ({
      name: row["Kernel Name"],
      launches: 1,
      ms: numberOf(row["Metric Value"]) * MS[row["Metric Unit"]],
    }));

/** Of Nsight Systems: a line a kernel. @param {string} text @returns {Kernel[]} */
export const readSums = (text) =>
  table(text, /^Time \(%\)/m)
    .filter((row) => row.Name)
    .map((row) => ({ name: row.Name, launches: numberOf(row.Instances), ms: numberOf(row["Total Time (ns)"]) / 1e6 }));

/** @type {Record<string, Profiler>} */
const PROFILERS = {
  nsys: (file, command) => {
    const quiet = ["--trace", "cuda", "--sample", "none", "--cpuctxsw", "none", "--force-overwrite", "true"];
    run("nsys", ["profile", ...quiet, "--output", file, ...command]);
    const report = ["--report", "cuda_gpu_kern_sum", "--format", "csv", "--output", "-", "--force-export", "true"];
    return readSums(run("nsys", ["stats", ...report, `${file}.nsys-rep`]));
  },
  ncu: (file, command) => {
    const options = ["--csv", "--print-units", "base", "--clock-control", "none", "--target-processes", "all"];
    run("ncu", [...options, "--metrics", "gpu__time_duration.sum", "--log-file", `${file}.csv`, ...command]);
    return readLaunches(readFileSync(`${file}.csv`, "utf8"));
  },
};

/**
 * The kernels of a step, longest first, by the first profiler that can. Errors: what each of them said.
 * @param {(steps: number) => string[]} commandOf
 * @returns {{ by: string, kernels: Kernel[] }}
 */
export function profileStep(commandOf) {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-profile-"));
  const refusals = [];
  try {
    for (const [by, profile] of Object.entries(PROFILERS)) {
      try {
        const [one, three] = [1, 3].map((steps) => profile(join(folder, `${by}-${steps}`), commandOf(steps)));
        return { by, kernels: ofOneStep(one, three) };
      } catch (failure) {
        refusals.push(failure.message);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  throw new Error(`no profile, for no profiler ran:\n${refusals.join("\n")}`);
}

/** @param {Kernel[]} one @param {Kernel[]} three what runs of one and of three steps launched */
export function ofOneStep(one, three) {
  /** @type {Map<string, Kernel>} */
  const sums = new Map();
  for (const [kernels, share] of [[three, 0.5], /** @type {const} */ ([one, -0.5])]) {
    for (const { name, launches, ms } of /** @type {Kernel[]} */ (kernels)) {
      const sum = sums.get(name) ?? { name, launches: 0, ms: 0 };
      sums.set(name, { name, launches: sum.launches + launches * Number(share), ms: sum.ms + ms * Number(share) });
    }
  }
  return [...sums.values()].filter(({ launches }) => launches > 0).sort((a, b) => b.ms - a.ms);
}

/** Names that REVMOE_KERNEL gives. */
function ownNames() {
  const folder = new URL("../../native/kernels/", import.meta.url);
  const texts = readdirSync(folder).filter((name) => name.endsWith(".h"));
  return texts.flatMap((name) =>
    [...readFileSync(new URL(name, folder), "utf8").matchAll(/^REVMOE_KERNEL\((\w+)/gm)].map(([, kernel]) => kernel),
  );
}

/** The first that fits. A name may have its arguments behind it. */
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

/** Two tables: by group; our kernels, and the longest of the others. @param {Kernel[]} kernels */
export function describeStep(kernels) {
  const own = new Set(ownNames());
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  const row = ({ name, launches, ms }) =>
    `| ${name} | ${Math.round(launches)} | ${ms.toFixed(3)} | ${((100 * ms) / total).toFixed(1)} % |`;
  const groups = new Map();
  for (const kernel of kernels) {
    const name = groupOf(kernel.name, own);
    const sum = groups.get(name) ?? { name, launches: 0, ms: 0 };
    groups.set(name, { name, launches: sum.launches + kernel.launches, ms: sum.ms + kernel.ms });
  }
  const short = (kernel) => ({ ...kernel, name: kernel.name.replaceAll("|", "/").slice(0, 100) });
  const ours = kernels.filter(({ name }) => groupOf(name, own) === "our kernels");
  const others = kernels.filter((kernel) => !ours.includes(kernel)).slice(0, 20);
  return [
    "| group | launches a step | ms a step | share |",
    "| --- | ---: | ---: | ---: |",
    ...[...groups.values()].sort((a, b) => b.ms - a.ms).map(row),
    row({ name: "all", launches: kernels.reduce((sum, { launches }) => sum + launches, 0), ms: total }),
    "",
    "| kernel | launches a step | ms a step | share |",
    "| --- | ---: | ---: | ---: |",
    ...[...ours, ...others].map(short).map(row),
  ].join("\n");
}
