// Runs of `revmoe train` ended at random moments, for all kinds of run:
//   node experiments/trust/kills.mjs [kills=200] [seed=1] [case...]
// The tiny model of test/golden. Moments: any in a process's life, while a folder is saved or removed (its .partial
// exists), while final/ is replaced. Three of four ends are SIGKILL, the others SIGTERM, SIGINT once or twice, SIGHUP.
// Each process continues with --resume latest. At the end weights, losses and held-out losses must equal those of an
// undisturbed run in memory, every line of metrics.jsonl must be whole, and nothing left behind. Prints a line per kind
// of run and a sum; on any failure, exits with 1 and keeps the folder.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { argsOf, CASES, differences, inMemory, makeWorkplace, resultOf, weightsOf } from "./cases.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const [wanted, seed] = [Number(process.argv[2] ?? 200), Number(process.argv[3] ?? 1)];
const named = process.argv.slice(4);

/** Seed of a run that others overwrite. */
const OTHER_SEED = 7;

let random = seed;
const draw = () => (random = (random * 48_271) % 2_147_483_647) / 2_147_483_647;
const oneOf = (list) => list[Math.floor(draw() * list.length)];

const place = makeWorkplace("kills");

function whole(args) {
  const { status, stderr, stdout } = spawnSync(process.execPath, [CLI, "train", ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`an undisturbed run ended with ${status}\n${args.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}

const namesIn = (run) => (existsSync(run) ? readdirSync(run) : []);
const savesNow = (run) => namesIn(run).some((name) => name.endsWith(".partial"));
const replacesFinal = (run) => namesIn(run).some((name) => /^final\./.test(name));
const trains = (run, size) => sizeOf(run) > size;
function sizeOf(run) {
  try {
    return readFileSync(join(run, "metrics.jsonl")).length;
  } catch {
    return 0;
  }
}

/** Ends the process at a moment of this kind; each kind has its own time limit. */
const MOMENTS = {
  any: async (alive, _run, { lifeMs }) => pause(alive, draw() * lifeMs),
  training: async (alive, run, { size, trainMs }) => {
    await until(alive, () => trains(run, size));
    await pause(alive, draw() * trainMs);
  },
  saving: async (alive, run) => {
    for (let times = 1 + Math.floor(draw() * 3); times > 0; times--) {
      await until(alive, () => !savesNow(run));
      await until(alive, () => savesNow(run));
    }
    if (draw() < 0.8) spin(draw() * 12);
  },
  final: async (alive, run) => {
    await until(alive, () => replacesFinal(run));
    if (draw() < 0.8) spin(draw() * 12);
  },
};
const ORDER = ["saving", "training", "saving", "any", "final", "training", "saving", "final"];
const SIGNALS = [
  "KILL",
  "TERM",
  "KILL",
  "KILL",
  "INT",
  "KILL",
  "KILL",
  "INT INT",
  "KILL",
  "KILL",
  "HUP",
  "KILL",
  "KILL",
  "KILL",
  "KILL",
  "KILL",
];

async function pause(alive, ms) {
  const end = performance.now() + ms;
  while (alive() && performance.now() < end) await sleep(1);
}
async function until(alive, condition) {
  while (alive() && !condition()) await sleep(1);
}
function spin(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Runs one process. Returns how it ended, what it printed, and what the folder has then. */
async function live(args, run, moment, signals, times) {
  const child = spawn(process.execPath, [CLI, "train", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  let ended = null;
  const end = new Promise((resolve) => child.on("close", (code, signal) => resolve((ended = { code, signal }))));
  const alive = () => ended === null && child.exitCode === null && child.signalCode === null;
  if (moment) {
    await MOMENTS[moment](alive, run, { ...times, size: sizeOf(run) });
    for (const signal of signals.split(" ")) {
      if (!alive()) break;
      child.kill(/** @type {NodeJS.Signals} */ (`SIG${signal}`));
      if (signal !== "KILL") await pause(alive, draw() * 20);
    }
  }
  await end;
  return { .../** @type {any} */ (ended), said, names: namesIn(run) };
}

const seedOf = (run) => {
  const newest = namesIn(run).filter((name) => /^checkpoint-\d+$/.test(name));
  const files = [
    ...newest.map((name) => join(run, name, "trainer_state.json")),
    join(run, "working/trainer_state.json"),
  ];
  const seeds = files.filter(existsSync).map((file) => JSON.parse(readFileSync(file, "utf8")).settings.seed);
  return seeds.length === 0 ? null : seeds[0];
};
const isVoid = (run) =>
  existsSync(join(run, "run.json")) && JSON.parse(readFileSync(join(run, "run.json"), "utf8")).replacing === true;

const total = { kills: 0, saving: 0, final: 0, working: 0, stopped: 0, left: 0, lives: 0, failures: 0 };

async function campaign(name, changes, quota) {
  const problems = [];
  const count = { kills: 0, saving: 0, final: 0, working: 0, stopped: 0, left: 0, lives: 0 };
  const folder = join(place.folder, name.replaceAll(" ", "-"));
  const began = performance.now();
  const reference = join(folder, "whole");
  whole(argsOf(place, inMemory(changes), reference));
  const lifeMs = performance.now() - began;
  const wanted = resultOf(reference);
  const times = { lifeMs, trainMs: 300 };
  let old = null;
  for (let round = 0; count.kills < quota && problems.length === 0; round++) {
    const run = join(folder, `run-${round}`);
    if (changes.overwritten) {
      whole([...argsOf(place, { ...inMemory(changes), save_steps: 3 }, run), `--seed=${OTHER_SEED}`]);
      old = weightsOf(run);
    }
    const args = argsOf(place, changes, run);
    for (let lives = 0; ; lives++) {
      const mine = seedOf(run) !== null && seedOf(run) !== OTHER_SEED && !isVoid(run);
      const used = namesIn(run).some((each) => !each.startsWith("run."));
      const begin = mine ? ["--resume=latest"] : used || changes.overwritten ? ["--overwrite-output-dir"] : [];
      const more = lives < 9 && count.kills < quota;
      const moment = more ? oneOf(ORDER) : null;
      const signals = oneOf(SIGNALS);
      count.lives++;
      const { code, signal, said, names } = await live([...args, ...begin], run, moment, signals, times);
      if (names.some((each) => each.endsWith(".partial"))) count.saving++;
      if (names.some((each) => /^final\./.test(each))) count.final++;
      if (names.includes("working")) count.working++;
      const what = `life ${lives} of ${run} (${moment ?? "to the end"}, ${signals}, ${begin}): code ${code}, signal ${signal}`;
      if (process.env.VERBOSE) console.log(what, names.join(" "));
      if (signal === "SIGKILL") count.kills++;
      // Before our signal handlers are set, a signal ends a process as the system does.
      else if (signal !== null && signals.startsWith(signal.slice(3))) count.left++;
      else if (code === 129 || code === 130 || code === 143) count.stopped++;
      else if (code !== 0) problems.push(`${what}\n${said}`);
      if (/\n {4}at /.test(said)) problems.push(`${what}: a stack\n${said}`);
      if (
        signal !== "SIGKILL" &&
        names.some((each) => /^run\.lock|\.partial$|\.revmoe-previous$|\.new$|\.tmp$/.test(each)) &&
        code !== null
      )
        problems.push(`${what}: left ${names.join(" ")}`);
      if (old && seedOf(run) === OTHER_SEED && !isVoid(run) && !weightsOf(run).equals(old))
        problems.push(`${what}: the old result is not whole`);
      if (code === 0 || problems.length > 0) break;
    }
    if (problems.length > 0) break;
    problems.push(...differences(run, wanted, changes.bad));
    if (problems.length > 0) problems.unshift(run);
    else rmSync(run, { recursive: true });
  }
  for (const key of Object.keys(count)) total[key] += count[key];
  if (problems.length > 0) total.failures++;
  console.log(`${name.padEnd(22)} ${line(count)}: ${problems.length === 0 ? "same bits" : "FAILED"}`);
  for (const problem of problems.slice(0, 12)) console.log(`  ${problem}`);
}
const line = ({ kills, saving, final, working, stopped, left, lives }) =>
  `${lives} lives, ${kills} killed (${saving} while saving or removing, ${final} of them final; ${working} with a working copy), ${stopped} stopped, ${left} ended by a signal before listening`;

const cases = Object.entries(CASES).filter(([name]) => named.length === 0 || named.includes(name));
for (const [name, changes] of cases) await campaign(name, changes, Math.ceil(wanted / cases.length));
console.log(`${"all".padEnd(22)} ${line(total)}: ${total.failures === 0 ? "same bits" : `${total.failures} FAILED`}`);
if (total.failures === 0) rmSync(place.folder, { recursive: true });
else {
  process.exitCode = 1;
  console.log(`kept: ${place.folder}`);
}
