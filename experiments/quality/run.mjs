// Fine-tunes one model with every coupling and keeps the held-out losses:
//   node experiments/quality/run.mjs [--part tune|seeds]
//   tune   one seed, half the steps, every rate of --rates, for representative couplings
//   seeds  every case and seed at --rate; `--rate tuned`: at the rate that was best in `tune` for this case
// Writes one line for each run to --out; runs that are in it are skipped, so the program can be stopped and started at
// any time. Gradients do not depend on the method (bitwise), so by default runs store activations, which is fastest
// (see --method).
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import {
  asEvaluated,
  asOrdinary,
  engineInfo,
  evaluateLoss,
  freeRun,
  prepareRun,
  resolveSettings,
  runStep,
} from "revmoe";
import { makeData } from "../../examples/make-data.mjs";
import { CASES, finalLoss, MORE_CASES, TUNED } from "./cases.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values: flags } = parseArgs({
  options: {
    part: { type: "string", default: "seeds" },
    model: { type: "string", default: join(here, "../../examples/tiny-moe") },
    data: { type: "string", default: "" }, // a folder with train.jsonl and valid.jsonl; Moby-Dick by default
    columns: { type: "string", default: "" }, // of the data: prompt=question,completion=answer
    out: { type: "string", default: "" },
    cases: { type: "string", default: "" }, // names, separated by semicolons, or "all"
    seeds: { type: "string", default: "1,2,3" },
    rate: { type: "string", default: "1e-3" },
    rates: { type: "string", default: "5e-4,1e-3,2e-3" },
    steps: { type: "string", default: "300" },
    length: { type: "string", default: "128" },
    batch: { type: "string", default: "2" },
    "eval-tokens": { type: "string", default: "8192" },
    threads: { type: "string", default: "1" },
    device: { type: "string", default: "cpu" },
    "compute-dtype": { type: "string", default: "float32" }, // fixed, so that machines are comparable
    method: { type: "string", default: "store" },
    curve: { type: "string", default: "yes" }, // whether to evaluate the ordinary network at more steps than the others
  },
});
const numbers = (text) => text.split(",").map(Number);
const ALL = { ...CASES, ...MORE_CASES };
const out = flags.out || join(here, "results", `${basename(flags.model)}.jsonl`);
const data = flags.data
  ? { train: join(flags.data, "train.jsonl"), valid: join(flags.data, "valid.jsonl") }
  : makeData("moby-dick", join(tmpdir(), "revmoe-quality"));

for (const plan of plans()) {
  const key = keyOf(plan);
  if (done().has(key)) continue;
  const result = await fineTune(plan);
  mkdirSync(dirname(out), { recursive: true });
  appendFileSync(out, `${JSON.stringify({ key, ...plan, ...result })}\n`);
  const last = result.evals.at(-1);
  console.log(
    `${key}: ${last?.trained.toFixed(4)} as trained, ${last?.exported.toFixed(4)} exported; ${result.cpuSeconds} s`,
  );
}

function plans() {
  const shape = { length: Number(flags.length), batch: Number(flags.batch), evalTokens: Number(flags["eval-tokens"]) };
  const steps = Number(flags.steps);
  const named = flags.cases === "all" ? Object.keys(ALL) : flags.cases ? flags.cases.split(";") : null;
  if (flags.part === "tune") {
    const names = named ?? TUNED;
    return numbers(flags.rates).flatMap((rate) =>
      names.map((name) => ({ part: "tune", name, seed: 1, rate, steps: steps / 2, ...shape })),
    );
  }
  const names = named ?? Object.keys(CASES);
  const rateOf = flags.rate === "tuned" ? tunedRates() : () => Number(flags.rate);
  return numbers(flags.seeds).flatMap((seed) =>
    names.map((name) => ({ part: "seeds", name, seed, rate: rateOf(name), steps, ...shape })),
  );
}

/**
 * For each case, the rate with the lowest held-out loss in part `tune` so far; the loss is the exported one if there is
 * one.
 */
function tunedRates() {
  const tune = results().filter(({ part }) => part === "tune");
  return (name) => {
    const mine = tune.filter((run) => run.name === name);
    if (mine.length === 0)
      throw new Error(`${name}: no run of part tune in ${out}; run --part tune --cases "${name}" first`);
    const end = ({ evals }) => finalLoss(name, evals.at(-1));
    return mine.reduce((best, run) => (end(run) < end(best) ? run : best)).rate;
  };
}

function keyOf({ part, name, seed, rate, steps, length, batch }) {
  return `${part}, ${name}, seed ${seed}, rate ${rate}, ${steps} steps of ${batch} x ${length}`;
}

function results() {
  if (!existsSync(out)) return [];
  return readFileSync(out, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function done() {
  return new Set(results().map(({ key }) => key));
}

async function fineTune({ name, seed, rate, steps, length, batch, evalTokens }) {
  const cpuStart = process.cpuUsage();
  const { coupling } = ALL[name];
  const { settings } = resolveSettings({
    flags: {
      ...withShares(ALL[name], steps),
      model: flags.model,
      train_file: data.train,
      validation_file: data.valid,
      ...(flags.columns
        ? { columns: Object.fromEntries(flags.columns.split(",").map((pair) => pair.split("="))) }
        : {}),
      output_dir: join(tmpdir(), "revmoe-quality", `unused-${process.pid}`),
      method: coupling === "ordinary" && flags.method === "reversible" ? "checkpoint" : flags.method,
      learning_rate: rate,
      max_steps: steps,
      max_length: length,
      per_device_train_batch_size: batch,
      per_device_eval_batch_size: Math.max(1, Math.floor(1024 / length)),
      threads: Number(flags.threads),
      device: flags.device,
      compute_dtype: flags["compute-dtype"],
      seed,
    },
  });
  const run = await prepareRun(settings);
  try {
    const held = spread(run.evalBatches, evalTokens);
    const evals = [evaluate(run, held, 0)];
    for (let step = 1; step <= steps; step++) {
      runStep(run, step);
      if (!isMark(step, steps, coupling)) continue;
      evals.push(evaluate(run, held, step));
      if (step < steps)
        console.log(
          `${name}, seed ${seed}, step ${step}: ${evals.at(-1).trained.toFixed(4)}, ${evals.at(-1).exported.toFixed(4)}`,
        );
    }
    const { user, system } = process.cpuUsage(cpuStart);
    const trainBatches = run.data.batchesPerEpoch;
    const bits = coupling === "ordinary" ? null : run.state.network.coupling.storedBits;
    return { evals, bits, trainBatches, cpuSeconds: Math.round((user + system) / 1e6), engine: engineInfo().version };
  } finally {
    freeRun(run);
  }
}

/** A case's `adapter_steps` and `distill_steps` below 1 are shares of the run. */
function withShares(settings, steps) {
  const { adapter_steps: adapters = 0, distill_steps: distillation = 0 } = settings;
  return {
    ...settings,
    ...(adapters > 0 ? { adapter_steps: Math.round(adapters * steps) } : {}),
    ...(distillation > 0 ? { distill_steps: Math.round(distillation * steps) } : {}),
  };
}

/** The ordinary network is evaluated at more steps: the others are compared with its curve. */
function isMark(step, steps, coupling) {
  if (step === steps || [20, 50, 150, 500].includes(step)) return true;
  return flags.curve === "yes" && coupling === "ordinary" && step % (steps < 100 ? 5 : steps < 400 ? 25 : 50) === 0;
}

/** Held-out loss with the present coupling, and as the ordinary network. */
function evaluate({ state: { network }, settings }, held, step) {
  const exported = evaluateLoss(asOrdinary(network), held);
  const same = settings.coupling === "ordinary" || network.coupling.drawsSigns;
  return { step, trained: same ? exported : evaluateLoss(asEvaluated(network), held), exported };
}

/** Batches from all over the held-out text, with about `tokens` tokens. */
function spread(batches, tokens) {
  const all = batches.slice(0, batches.length);
  const count = Math.min(all.length, Math.max(1, Math.round(tokens / all[0].tokens.length)));
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]);
}
