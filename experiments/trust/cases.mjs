// The kinds of run that the campaigns of experiments/trust/ kill, cut and run out of disk, on the tiny model of
// test/golden; and what a run leaves: weights, losses, and whether every line of its metrics is whole. Whoever makes a
// workplace removes its folder.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));

const disk = (durability) => ({ parameters: "disk", durability });
const revffn = { coupling: "revffn", adapter_learning_rate: 1e-3, distill_learning_rate: 1e-3 };
/** Differences from the common settings: ten steps of adamw in memory, saved every second step. */
export const CASES = {
  adamw: { save_steps: 1 },
  adamw8bit: { optimizer: "adamw8bit", weights_dtype: "bfloat16", save_steps: 3, save_total_limit: 1 },
  adalomo: { optimizer: "adalomo", save_steps: 2, save_total_limit: 2, gradient_accumulation_steps: 2 },
  muon: { optimizer: "muon", save_steps: 1, save_total_limit: 1 },
  galore: { optimizer: "galore_adamw", galore_rank: 4, galore_update_gap: 3, save_steps: 2 },
  store: { method: "store", save_steps: 2, save_total_limit: 1 },
  masters: { weights_dtype: "bfloat16", weights_correction: "8bit", save_steps: 1, save_total_limit: 2 },
  "disk step": { ...disk("step"), optimizer: "adamw8bit", weights_dtype: "bfloat16" },
  "disk step saved": { ...disk("step"), save_steps: 2, save_total_limit: 1, gradient_accumulation_steps: 2 },
  "disk step muon": { ...disk("step"), optimizer: "muon", save_steps: 3, save_total_limit: 2 },
  "disk snapshot": { ...disk("snapshot"), save_steps: 1, save_total_limit: 1 },
  "disk snapshot adalomo": { ...disk("snapshot"), optimizer: "adalomo", weights_dtype: "bfloat16", save_steps: 2 },
  evaluated: { validation_rows: 3, eval_steps: 1, save_steps: 2, save_total_limit: 1 },
  phases: { ...revffn, adapter_steps: 3, distill_steps: 3, save_steps: 1, save_total_limit: 2 },
  "phases on disk": { ...revffn, ...disk("step"), adapter_steps: 3, distill_steps: 3, save_steps: 2 },
  gamma: { gamma: "-1/16", gamma_final: "-1/256", gamma_final_ratio: 0.6, save_steps: 1, save_total_limit: 1 },
  "gamma on disk": { ...disk("step"), gamma: "-1/16", gamma_final: "-1/256", gamma_final_ratio: 0.6 },
  overwrite: { save_steps: 1, save_total_limit: 2, overwritten: true },
  "overwrite on disk": { ...disk("step"), save_steps: 2, overwritten: true },
  rollback: { on_nonfinite: "rollback", save_steps: 2, bad: true },
  "rollback on disk": { ...disk("step"), on_nonfinite: "rollback", save_steps: 2, bad: true },
};
const COMMON = {
  threads: 1,
  compute_dtype: "float32",
  max_length: 64,
  max_steps: 10,
  per_device_train_batch_size: 1,
  learning_rate: 5e-3,
  save_steps: 0,
};
/** Integer streams would refuse such large values before there is a gradient. */
const BAD = { coupling: "ordinary", method: "checkpoint" };

/** Makes a folder with the model and its rows, and with a model whose token Q spoils every batch it is in. */
export function makeWorkplace(name) {
  const folder = mkdtempSync(join(tmpdir(), `revmoe-${name}-`));
  const model = join(folder, "model");
  mkdirSync(model);
  for (const file of [
    "hf-tiny/config.json",
    "hf-tiny/model.safetensors",
    "letters/tokenizer.json",
    "letters/tokenizer_config.json",
  ]) {
    cpSync(join(GOLDEN, file), join(model, file.split("/")[1]));
  }
  const rowsOf = (name, texts) => {
    writeFileSync(join(folder, name), texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
    return join(folder, name);
  };
  const texts = Array.from({ length: 14 }, (_, i) => `The sum of ${i} and ${i % 4} is ${i + (i % 4)}.`);
  const bad = {
    model: join(folder, "bad-model"),
    rows: rowsOf("bad.jsonl", [...texts.slice(0, 9), "Q is bad.", ...texts.slice(9)]),
  };
  cpSync(model, bad.model, { recursive: true });
  spoil(
    join(bad.model, "model.safetensors"),
    JSON.parse(readFileSync(join(model, "tokenizer.json"), "utf8")).model.vocab.Q,
  );
  return { folder, model, rows: rowsOf("rows.jsonl", texts), bad };
}

/** Makes one row of the embedding so large that any batch with this token has a gradient that is not finite. */
function spoil(path, token) {
  const bytes = readFileSync(path);
  const head = Number(bytes.readBigUInt64LE(0));
  const { shape, data_offsets } = JSON.parse(bytes.subarray(8, 8 + head).toString())["model.embed_tokens.weight"];
  for (let i = 0; i < shape[1]; i++)
    bytes.writeFloatLE(i % 2 ? 3e38 : -3e38, 8 + head + data_offsets[0] + 4 * (token * shape[1] + i));
  writeFileSync(path, bytes);
}

/**
 * The words after `revmoe train` for a case that writes to `out`.
 * @param {any} place @param {Record<string, any>} changes @param {string} out
 * @returns {string[]}
 */
export const argsOf = (place, { overwritten: _, bad, ...changes }, out) =>
  Object.entries({
    ...COMMON,
    ...(bad
      ? { ...BAD, model: place.bad.model, train_file: place.bad.rows }
      : { model: place.model, train_file: place.rows }),
    output_dir: out,
    ...changes,
  }).map(([name, value]) => `--${name.replaceAll("_", "-")}=${value}`);

/** The same case with parameters in memory. */
export const inMemory = ({ parameters: _, durability: __, ...changes }) => changes;

/** Losses by step, and held-out losses by step and network, only from whole lines; and what is wrong with the file. */
export function metricsOf(run) {
  const wrong = [];
  const losses = new Map();
  const text = readFileSync(join(run, "metrics.jsonl"), "utf8");
  if (!text.endsWith("\n")) wrong.push("metrics.jsonl has no newline at its end");
  for (const [i, line] of text.trimEnd().split("\n").entries()) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      wrong.push(`line ${i + 1} of metrics.jsonl is not whole`);
      continue;
    }
    const { kind, step } = event;
    const key = kind === "step" ? `step ${step}` : kind === "eval" ? `eval ${step} ${event.network}` : null;
    if (key === null) continue;
    losses.set(key, kind === "step" ? event.loss : event.evalLoss);
  }
  const untold = (key) => !text.includes(`${key} was made and lasts, but its line is missing`);
  return { losses, untold, wrong, lines: text.split("\n").filter((line) => line.includes('"kind":"step"')).length };
}

export const weightsOf = (run) => readFileSync(join(run, "final/model.safetensors"));

/** The differences between two runs that should have the same bits; `anyLines` if steps may have been repeated. */
export function differences(run, wanted, anyLines = false) {
  const { losses, untold, wrong, lines } = metricsOf(run);
  const problems = [...wrong];
  for (const [key, loss] of wanted.losses)
    if (losses.get(key) !== loss && (losses.has(key) || untold(key)))
      problems.push(`${key}: ${losses.get(key)}, not ${loss}`);
  for (const key of losses.keys()) if (!wanted.losses.has(key)) problems.push(`${key} is not of the undisturbed run`);
  const missing = [...wanted.losses.keys()].filter((key) => !losses.has(key)).length;
  if (!anyLines && lines + missing !== wanted.lines) problems.push(`${lines} lines of steps, not ${wanted.lines}`);
  for (const [name, bytes] of wanted.final) {
    const path = join(run, "final", name);
    if (!existsSync(path) || !readFileSync(path).equals(bytes)) problems.push(`final/${name} is another`);
  }
  // Which checkpoints exist depends on where the run was stopped.
  const names = (of) =>
    of
      .filter((name) => !/^((nonfinite|spike)-step|checkpoint-\d+$)/.test(name))
      .sort()
      .join(" ");
  if (names(readdirSync(run)) !== names(wanted.names))
    problems.push(`the folder holds ${names(readdirSync(run))}, not ${names(wanted.names)}`);
  return problems;
}

const filesIn = (folder) => readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]);

/** What `differences` compares with. */
export const resultOf = (run) => ({ final: filesIn(join(run, "final")), names: readdirSync(run), ...metricsOf(run) });
