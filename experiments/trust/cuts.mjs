// Saves that are cut or refused at every call of the file system: node experiments/trust/cuts.mjs [most=200] [case...]
// cut:     while a run continues, its folder is copied before every call that changes a file or a name, in the middle
//          of every write and between the files of every removal. Each copy is what a kill would leave. From it a run
//          continues (or begins again if nothing was saved yet), and must end with the same bits and nothing left
//          behind. `most` moments of a case, evenly spread.
// refused: from the Nth writing call on, the disk is full, for `most` N, evenly spread. No checkpoint that was whole
//          before may be lost, the run must end with a sentence, and the next start must end with the same bits.
// full:    the same with a disk of a given size (a tmpfs, as root), which is then made larger.
// All in one process, without the lock. Prints a line per case; exits with 1 on any failure.
import { spawnSync } from "node:child_process";
import fs, { existsSync, readdirSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";

import { argsOf, CASES, differences, inMemory, makeWorkplace, resultOf } from "./cases.mjs";

const real = { ...fs };
const { runCli } = await import("../../dist/cli/program.js");
const { COMMANDS } = await import("../../dist/commands/registry.js");
const { checkCheckpoint } = await import("../../dist/checkpoint/files/check-files.js");
const { listCheckpoints } = await import("../../dist/checkpoint/run/checkpoints.js");

const NAMES = [
  "adamw",
  "muon",
  "disk step",
  "disk step saved",
  "disk snapshot",
  "phases on disk",
  "overwrite",
  "rollback on disk",
];
const place = makeWorkplace("cuts");
const [most, ...given] = process.argv.slice(2);
const MOST = Number(most ?? 200);
const cases = given.length > 0 ? given : NAMES;

/** Runs `revmoe train`; returns the exit code and everything printed. */
async function train(args) {
  let said = "";
  const output = { write: (text) => void (said += text), isTTY: false };
  const code = await runCli({ version: () => "0", commands: COMMANDS }, ["train", ...args], output, output);
  return { code, said };
}

/** Runs `work`; meanwhile calls `moment(kind)` before each call that changes a file in `run`, and in its middle. */
async function watched(run, moment, work) {
  const files = new Map();
  const isIn = (path) => typeof path === "string" && (path === run || path.startsWith(`${run}/`));
  let busy = false;
  const at = (kind, path) => {
    if (busy || !isIn(path)) return;
    busy = true;
    try {
      moment(kind, path);
    } finally {
      busy = false;
    }
  };
  const wrap = {
    openSync(path, flags = "r", ...more) {
      const writes = typeof flags === "number" ? flags & 3 : flags !== "r";
      if (writes) at("open", path);
      const file = real.openSync(path, flags, ...more);
      files.set(file, path);
      return file;
    },
    closeSync(file) {
      files.delete(file);
      real.closeSync(file);
    },
    writeSync(file, bytes, start = 0, length = bytes.length - start, position = null) {
      const path = files.get(file);
      if (busy || !isIn(path) || typeof bytes === "string" || length < 2)
        return real.writeSync(file, bytes, start, length, position);
      at("write", path);
      const half = Math.floor(length / 2);
      const count = real.writeSync(file, bytes, start, half, position);
      at("half", path);
      return (
        count + real.writeSync(file, bytes, start + count, length - count, position === null ? null : position + count)
      );
    },
    fsyncSync(file) {
      at("fsync", files.get(file));
      real.fsyncSync(file);
    },
    ftruncateSync(file, ...more) {
      at("truncate", files.get(file));
      real.ftruncateSync(file, ...more);
    },
    renameSync(from, to) {
      at("rename", from);
      real.renameSync(from, to);
    },
    linkSync(from, to) {
      at("link", to);
      real.linkSync(from, to);
    },
    mkdirSync(path, ...more) {
      at("mkdir", path);
      return real.mkdirSync(path, ...more);
    },
    rmdirSync(path, ...more) {
      at("rmdir", path);
      real.rmdirSync(path, ...more);
    },
    rmSync(path, options) {
      if (!busy && isIn(path) && existsSync(path) && real.lstatSync(path).isDirectory() && options?.recursive) {
        for (const name of real.readdirSync(path)) wrap.rmSync(join(path, name), options);
      }
      at("remove", path);
      real.rmSync(path, options);
    },
  };
  Object.assign(fs, wrap);
  syncBuiltinESMExports();
  try {
    return await work();
  } finally {
    for (const name of Object.keys(wrap)) fs[name] = real[name];
    syncBuiltinESMExports();
  }
}

const stateOf = (run) => join(run, "working/trainer_state.json");
const seedIn = (file) => JSON.parse(real.readFileSync(file, "utf8")).settings.seed;
/** Whether a run of this seed can continue. */
function goesOn(run) {
  if (!existsSync(run)) return false;
  if (existsSync(join(run, "run.json")) && JSON.parse(real.readFileSync(join(run, "run.json"), "utf8")).replacing)
    return false;
  const files = [
    ...listCheckpoints(run).map((step) => join(run, `checkpoint-${step}/trainer_state.json`)),
    stateOf(run),
  ];
  return files.filter(existsSync).some((file) => seedIn(file) !== OTHER_SEED);
}
const OTHER_SEED = 7;

/** Continues from what is in `run`, or begins again; returns what is wrong at the end. */
async function finish(changes, run, wanted) {
  const used = existsSync(run) && readdirSync(run).some((name) => !name.startsWith("run."));
  const begin = goesOn(run) ? ["--resume=latest"] : used || changes.overwritten ? ["--overwrite-output-dir"] : [];
  const { code, said } = await train([...argsOf(place, changes, run), ...begin]);
  return code === 0
    ? differences(run, wanted, changes.bad)
    : [`${begin}: exit code ${code}: ${said.split("\n").slice(-3).join(" ")}`];
}

/** For `overwritten` cases, makes the run that they replace; returns the words with which the case begins. */
async function begin(changes, run) {
  const args = argsOf(place, changes, run);
  if (!changes.overwritten) return args;
  const { code, said } = await train([
    ...argsOf(place, { ...inMemory(changes), save_steps: 3 }, run),
    `--seed=${OTHER_SEED}`,
  ]);
  if (code !== 0) throw new Error(said);
  return [...args, "--overwrite-output-dir"];
}

const remove = (folder) => real.rmSync(folder, { recursive: true, force: true });

/** The distance between moments that are tried. */
async function strideOf(changes, counts) {
  const run = join(place.folder, "counted");
  const args = await begin(changes, run);
  let moments = 0;
  await watched(
    run,
    (kind) => void (moments += counts(kind)),
    () => train(args),
  );
  remove(run);
  return Math.max(1, moments / MOST);
}

async function cut(changes, wanted, problems) {
  const stride = await strideOf(changes, () => 1);
  const run = join(place.folder, "cut");
  const args = await begin(changes, run);
  const copies = [];
  let moments = 0;
  const keep = (kind, path) => {
    if (moments++ < copies.length * stride || !existsSync(run)) return;
    const copy = join(place.folder, "copies", `${copies.length}`);
    real.cpSync(run, copy, { recursive: true });
    for (const left of readdirSync(copy)) if (left.startsWith("run.lock")) remove(join(copy, left));
    copies.push({ copy, what: `${kind} ${path.slice(run.length + 1)}` });
  };
  const { code, said } = await watched(run, keep, () => train(args));
  if (code !== 0) throw new Error(said);
  for (const { copy, what } of copies) {
    const found = await finish(changes, copy, wanted);
    if (found.length > 0) problems.push(`cut at ${what}: ${found.join("; ")}`);
    else remove(copy);
  }
  remove(run);
  return `cut at ${copies.length} of ${moments} moments`;
}

const WRITING = ["open", "half", "fsync", "mkdir", "link"];
const wholeSteps = (run) =>
  listCheckpoints(run).filter((step) => checkCheckpoint(join(run, `checkpoint-${step}`)).problems.length === 0);

async function refused(changes, wanted, problems) {
  const stride = await strideOf(changes, (kind) => WRITING.includes(kind));
  const full = (syscall, path) => {
    const known = ["open", "mkdir", "link"].includes(syscall) ? { path } : {};
    return Object.assign(new Error(`ENOSPC: no space left on device, ${syscall}`), {
      code: "ENOSPC",
      errno: -28,
      syscall,
      ...known,
    });
  };
  let tries = 0;
  for (let from = 0; ; from = Math.ceil(tries * stride)) {
    const run = join(place.folder, `refused-${from}`);
    const args = [...(await begin(changes, run)), "--disk-full-wait=0"];
    let [calls, before, what] = [0, null, ""];
    const ended = await watched(
      run,
      (kind, path) => {
        if (!WRITING.includes(kind) || calls++ < from) return;
        if (before === null) {
          before = wholeSteps(run);
          what = `refused from ${kind} ${path.slice(run.length + 1)}`;
        }
        throw full(kind === "half" ? "write" : kind, path);
      },
      () => train(args),
    );
    if (before === null) {
      remove(run);
      return `refused ${tries} times`;
    }
    tries++;
    const found = [];
    if (/\n {4}at /.test(ended.said) || ended.code === 1)
      found.push(`a stack: ${ended.said.split("\n").slice(-12).join(" ")}`);
    const now = existsSync(run) ? wholeSteps(run) : [];
    // Older ones may be removed only when a newer one is whole.
    if (before.length > 0 && !(Math.max(...now) >= Math.max(...before)))
      found.push(`checkpoints ${before} before, ${now} after`);
    if (existsSync(run) && readdirSync(run).some((each) => each.startsWith("run.lock"))) found.push("the lock is left");
    found.push(...(await finish(changes, run, wanted)));
    if (found.length > 0) problems.push(`${what}: ${found.join("; ")}`);
    else remove(run);
  }
}

/** Tries disks of growing size, until the run has enough room. */
async function fullDisk(changes, wanted, problems) {
  const disk = join(place.folder, "disk");
  real.mkdirSync(disk, { recursive: true });
  const mount = (...words) => spawnSync("mount", words).status === 0;
  let tries = 0;
  for (let size = 16; ; size = Math.ceil((size * (1 + 10 / MOST)) / 4) * 4) {
    if (!mount("-t", "tmpfs", "-o", `size=${size}k`, "tmpfs", disk)) return "no disk could be mounted, 0 disks";
    const run = join(disk, "run");
    const { code, said } = await train([...argsOf(place, changes, run), "--disk-full-wait=0"]);
    const found = code === 0 || code === 2 ? [] : [`exit code ${code}: ${said.split("\n").slice(-12).join(" ")}`];
    mount("-o", "remount,size=64m", disk);
    tries++;
    found.push(...(await finish(changes, run, wanted)));
    if (found.length > 0) problems.push(`a disk of ${size} KiB: ${found.join("; ")}`);
    if (spawnSync("umount", [disk]).status !== 0)
      throw new Error(`${disk} cannot be unmounted: a run left a file open`);
    if (code === 0 && !said.includes("warning")) return `${tries} disks`;
  }
}

for (const name of cases) {
  const changes = CASES[name];
  const reference = join(place.folder, "whole");
  remove(reference);
  const { code, said } = await train(argsOf(place, inMemory(changes), reference));
  if (code !== 0) throw new Error(said);
  const wanted = resultOf(reference);
  const problems = [];
  const began = performance.now();
  const counts = [await cut(changes, wanted, problems), await refused(changes, wanted, problems)];
  if (!changes.overwritten) counts.push(await fullDisk(changes, wanted, problems));
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  console.log(
    `${name.padEnd(18)} ${counts.join(", ")} (${seconds} s): ${problems.length === 0 ? "same bits" : `${problems.length} FAILED`}`,
  );
  for (const problem of problems.slice(0, 12)) console.log(`  ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
}
if (process.exitCode) console.log(`kept: ${place.folder}`);
else remove(place.folder);
