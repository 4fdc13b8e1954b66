// Time on a GPU by kernel: a program runs with one step and with three, and the difference is two steps, without the
// launches that make the model. CUPTI is tried first, through a library that CUDA loads into the program
// (native/profile): it also gives the gaps between kernels, and the calls in which the program waited. Then Nsight
// Systems (nsys) and Nsight Compute (ncu); ncu runs kernels one by one, so its sum is the time of the kernels alone.
// Clocks are not changed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { resolveEngine } from "../../setup/libtorch.mjs";

/**
 * Sums over a run, or of a step. idleMs: how long the GPU had nothing to do before it; isCall: a CUDA call in which the
 * program waited.
 * @typedef {{ name: string, launches: number, ms: number, idleMs?: number, isCall?: boolean }} Kernel
 */
/** @typedef {(file: string, command: string[]) => Kernel[]} Profiler runs a command; its files begin with `file` */

const run = (program, args, env = {}) => {
  const ended = spawnSync(program, args, { encoding: "utf8", maxBuffer: 2 ** 30, env: { ...process.env, ...env } });
  if (ended.status === 0) return ended.stdout;
  throw new Error(`${program}: ${(ended.error?.message ?? `${ended.stdout}${ended.stderr}`).trim().slice(-1500)}`);
};

const MS = { ns: 1e-6, nsecond: 1e-6, us: 1e-3, usecond: 1e-3, ms: 1, msecond: 1, s: 1e3, second: 1e3 };
const numberOf = (text) => Number(text.replaceAll(",", ""));

/**
 * Rows of a table with commas, which follows other lines, as records with the names from its first row.
 * @param {string} text @param {RegExp} start
 */
function table(text, start) {
  const [names, ...rows] = text
    .slice(Math.max(0, text.search(start)))
    .split(/\r?\n/)
    .filter(Boolean)
    .map((line) => [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)])
    .map((cells) => cells.map(([, quoted, plain]) => (quoted === undefined ? plain : quoted.replaceAll('""', '"'))));
  return rows.map((row) => Object.fromEntries(row.map((cell, i) => [names[i], cell])));
}

/** Reads Nsight Compute's output: a line for each launch. @param {string} text @returns {Kernel[]} */
export const readLaunches = (text) =>
  table(text, /^"ID"/m)
    .filter((row) => row["Metric Name"] === "gpu__time_duration.sum")
    .map((row) => ({
      name: row["Kernel Name"],
      launches: 1,
      ms: numberOf(row["Metric Value"]) * MS[row["Metric Unit"]],
    }));

/** Reads Nsight Systems' output: a line for each kernel. @param {string} text @returns {Kernel[]} */
export const readSums = (text) =>
  table(text, /^Time \(%\)/m)
    .filter((row) => row.Name)
    .map((row) => ({ name: row.Name, launches: numberOf(row.Instances), ms: numberOf(row["Total Time (ns)"]) / 1e6 }));

/**
 * Where CUPTI's header and library are: beside libtorch from PyPI, or in CUDA's toolkit.
 * @returns {{ include: string[], library: string }}
 */
function findCupti() {
  const packages = join(dirname(dirname(resolveEngine().libDir)), "nvidia");
  const toolkit = process.env.CUDA_HOME ?? "/usr/local/cuda";
  const places = [
    { include: [join(packages, "cu13/include")], libs: [join(packages, "cu13/lib")] },
    {
      include: ["cuda_cupti", "cuda_runtime"].map((name) => join(packages, name, "include")),
      libs: [join(packages, "cuda_cupti/lib")],
    },
    {
      include: [join(toolkit, "include"), join(toolkit, "extras/CUPTI/include")],
      libs: [join(toolkit, "lib64"), join(toolkit, "extras/CUPTI/lib64")],
    },
  ];
  for (const { include, libs } of places) {
    const library = libs
      .flatMap((folder) => ["libcupti.so.13", "libcupti.so.12", "libcupti.so"].map((name) => join(folder, name)))
      .find(existsSync);
    const has = (name) => include.some((folder) => existsSync(join(folder, name)));
    if (library && has("cupti.h") && has("cuda.h")) return { include, library };
  }
  throw new Error(`CUPTI: no cupti.h, cuda.h and libcupti.so below ${packages} or ${toolkit}`);
}

/** Builds the library that writes down the GPU's work. @param {string} folder @returns {string} */
function buildTimes(folder) {
  const { include, library } = findCupti();
  const built = join(folder, "kernel_times.so");
  const source = fileURLToPath(new URL("../../native/profile/kernel_times.cpp", import.meta.url));
  const flags = ["-shared", "-fPIC", "-O2", "-std=gnu++17", ...include.map((path) => `-I${path}`)];
  run("g++", [...flags, source, library, `-Wl,-rpath,${dirname(library)}`, "-o", built]);
  return built;
}

/**
 * Reads CUPTI's output: a line for each kernel, copy, fill or call, with start, end and name.
 * @param {string} text @returns {Kernel[]}
 */
export function readTimes(text) {
  const records = text
    .split("\n")
    .filter(Boolean)
    .map((line) => /** @type {[string, string, string]} */ (line.split("\t", 3)))
    .map(([start, end, name]) => ({ start: Number(start) / 1e6, end: Number(end) / 1e6, name }))
    .sort((a, b) => a.start - b.start);
  /** @type {Map<string, Kernel & { idleMs: number }>} */
  const sums = new Map();
  let busyUntil = Number.POSITIVE_INFINITY;
  for (const { start, end, name } of records) {
    const isCall = name.startsWith("call ");
    const sum = sums.get(name) ?? { name, launches: 0, ms: 0, idleMs: 0, isCall };
    sum.launches++;
    sum.ms += end - start;
    if (!isCall) {
      sum.idleMs += Math.max(0, start - busyUntil);
      busyUntil = busyUntil === Number.POSITIVE_INFINITY ? end : Math.max(busyUntil, end);
    }
    sums.set(name, sum);
  }
  return [...sums.values()];
}

/** @type {Record<string, Profiler>} */
const PROFILERS = {
  cupti: (file, command) => {
    const times = `${file}.tsv`;
    const library = buildTimes(dirname(file));
    run(command[0], command.slice(1), { CUDA_INJECTION64_PATH: library, REVMOE_KERNEL_TIMES: times });
    return readTimes(readFileSync(times, "utf8"));
  },
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
 * The kernels of a step, longest first, by the first profiler that works. Errors: the messages of all profilers.
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
    for (const { name, launches, ms, idleMs = 0, isCall } of /** @type {Kernel[]} */ (kernels)) {
      const sum = sums.get(name) ?? { name, launches: 0, ms: 0, idleMs: 0, isCall };
      sums.set(name, {
        ...sum,
        launches: sum.launches + launches * Number(share),
        ms: sum.ms + ms * Number(share),
        idleMs: (sum.idleMs ?? 0) + idleMs * Number(share),
      });
    }
  }
  return [...sums.values()].filter(({ launches }) => launches > 0).sort((a, b) => b.ms - a.ms);
}
