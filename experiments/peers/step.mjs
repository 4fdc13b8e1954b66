// Our training step and transformers', on a CPU, in alternating rounds of one run:
//   node experiments/peers/step.mjs [--size moe-400m|smoke] [--dtypes NAME,...] [--optimizers NAME,...]
//     [--methods NAME,...] [--experts NAME,...] [--tokens N] [--micro-batches N] [--rounds N] [--steps N] [--threads N]
//     [--python PATH] [--only ours|theirs] [--dir FOLDER] [--json FILE]
// All use one random checkpoint and one batch; every row is its own process, whose first step does not count. The first
// round has all rows; later ones have ours and the two fastest of theirs for each dtype and optimizer. Ours runs on the
// libtorch of LIBTORCH, else on the default engine's: to use the same library as theirs, build with LIBTORCH=VENV node
// setup/build.mjs and give the same LIBTORCH here. On a machine with other users, OMP_WAIT_POLICY=passive keeps threads
// that wait for a busy core out of the processor seconds.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { report } from "./step-report.mjs";

/** Keys of config.json in addition to those that all sizes share. */
const SIZES = {
  "moe-400m": {
    vocab_size: 32_000,
    hidden_size: 1024,
    num_hidden_layers: 6,
    num_attention_heads: 16,
    num_key_value_heads: 16,
    num_experts: 32,
    num_experts_per_tok: 4,
    moe_intermediate_size: 512,
    shared_expert_intermediate_size: 1024,
  },
  smoke: {
    vocab_size: 512,
    hidden_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    num_experts: 8,
    num_experts_per_tok: 2,
    moe_intermediate_size: 32,
    shared_expert_intermediate_size: 64,
  },
};
const SHARED = {
  architectures: ["Qwen2MoeForCausalLM"],
  model_type: "qwen2_moe",
  decoder_sparse_step: 1,
  norm_topk_prob: false,
  hidden_act: "silu",
  max_position_embeddings: 32_768,
  rope_theta: 1_000_000,
  rms_norm_eps: 1e-6,
  initializer_range: 0.02,
  attention_dropout: 0,
  use_sliding_window: false,
  tie_word_embeddings: false,
  output_router_logits: false,
};

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "moe-400m" },
    // mixed: float32 weights and state, bfloat16 products (theirs uses autocast).
    dtypes: { type: "string", default: "float32,mixed,bfloat16" },
    optimizers: { type: "string", default: "adamw,adafactor" },
    methods: { type: "string", default: "reversible,checkpoint,store" },
    experts: { type: "string", default: "grouped_mm,eager" },
    checkpointing: { type: "string", default: "on,off" },
    tokens: { type: "string", default: "1024" },
    "micro-batches": { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    python: { type: "string", default: "python3" },
    only: { type: "string" },
    dir: { type: "string", default: tmpdir() },
    json: { type: "string" },
  },
});
const size = SIZES[values.size];
if (!size) {
  console.error(`--size ${values.size}: is not known (expected ${Object.keys(SIZES).join(", ")}).`);
  process.exit(2);
}
const list = (name) => values[name].split(",").filter(Boolean);
const number = (name) => Number(values[name]);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

const folder = mkdtempSync(join(values.dir, "revmoe-peers-"));
let child;
const cleanUp = () => {
  child?.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
};
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
}
try {
  const rows = [...(values.only === "theirs" ? [] : ours()), ...(values.only === "ours" ? [] : theirs())];
  mkdirSync(join(folder, "model"));
  writeFileSync(join(folder, "model/config.json"), JSON.stringify({ ...SHARED, ...size }, null, 2));
  await run(values.python, [here("./step.py"), JSON.stringify({ make: join(folder, "model") })]);
  let racing = rows;
  for (let round = 1; round <= number("rounds"); round++) {
    console.log(`round ${round}: ${racing.length} rows, load ${loadavg()[0].toFixed(1)}`);
    for (const row of racing) await measure(row);
    racing = fastest(racing.filter(({ failure }) => !failure));
  }
  report(rows, values);
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ settings: values, size, rows }, null, 2)}\n`);
} finally {
  cleanUp();
}

function ours() {
  return list("dtypes").flatMap((dtype) =>
    list("optimizers").flatMap((optimizer) =>
      list("methods").map((method) => ({
        who: "ours",
        dtype,
        optimizer,
        variant: method,
        told: { method },
        steps: [],
      })),
    ),
  );
}

function theirs() {
  return list("dtypes").flatMap((dtype) =>
    list("optimizers").flatMap((optimizer) =>
      list("experts").flatMap((experts) =>
        list("checkpointing").map((checkpointing) => ({
          who: "theirs",
          dtype,
          optimizer,
          variant: `${experts}${checkpointing === "on" ? ", checkpointing" : ""}`,
          told: { experts, checkpointing: checkpointing === "on" },
          steps: [],
        })),
      ),
    ),
  );
}

/** Our rows, and the two fastest of theirs for each dtype and optimizer. */
function fastest(rows) {
  const best = ({ steps }) => Math.min(...steps.map(({ seconds }) => seconds));
  const place = (row) =>
    rows.filter(
      (other) =>
        other.who === "theirs" &&
        other.dtype === row.dtype &&
        other.optimizer === row.optimizer &&
        best(other) < best(row),
    ).length;
  return rows.filter((row) => row.who === "ours" || place(row) < 2);
}

/** Runs the row once more and adds its steps to it. */
async function measure(row) {
  const told = JSON.stringify({
    ...row.told,
    model: join(folder, "model"),
    dtype: row.dtype,
    optimizer: row.optimizer,
    threads: number("threads"),
    steps: number("steps"),
    rate: 1e-5,
    batches: batches(),
  });
  const [program, script] = row.who === "ours" ? [process.execPath, "./step-ours.mjs"] : [values.python, "./step.py"];
  try {
    for (const { kind, ...facts } of await run(program, [here(script), told])) {
      if (kind === "step") row.steps.push(facts);
      else Object.assign(row, facts, { peakBytes: Math.max(row.peakBytes ?? 0, facts.peakBytes ?? 0) });
    }
    row.firstLoss ??= row.steps[0].loss;
    row.steps.splice(-number("steps"), 1);
    const latest = row.steps.slice(1 - number("steps"));
    console.log(
      `  ${row.who}, ${row.dtype}, ${row.optimizer}, ${row.variant}: ${latest.map(({ seconds }) => seconds.toFixed(2)).join(" ")} s, ` +
        `processor ${latest.map(({ cpuSeconds }) => cpuSeconds.toFixed(2)).join(" ")} s, peak ${(row.peakBytes / 2 ** 30).toFixed(2)} GiB, first loss ${row.firstLoss.toFixed(5)}`,
    );
  } catch (failure) {
    row.failure = failure.message;
    console.log(`  ${row.who}, ${row.dtype}, ${row.optimizer}, ${row.variant}: ${failure.message}`);
  }
}

/** Tokens of each micro-batch, the same in every process: a linear congruential generator. */
function batches() {
  let state = 1;
  const next = () => (state = (state * 48_271) % 2_147_483_647) % size.vocab_size;
  return Array.from({ length: number("micro-batches") }, () => Array.from({ length: number("tokens") }, next));
}

/** The lines of JSON that a program prints; if it fails, throws with its last line of errors. */
async function run(program, args) {
  const threads = { OMP_NUM_THREADS: values.threads, MKL_NUM_THREADS: values.threads };
  child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...threads } });
  let errors = "";
  child.stderr.on("data", (data) => (errors = (errors + data).slice(-4000)));
  const ended = new Promise((done, failed) =>
    child.on("error", failed).on("close", (code, signal) => done(signal ?? code)),
  );
  const lines = [];
  for await (const line of createInterface({ input: child.stdout })) lines.push(JSON.parse(line));
  const code = await ended;
  if (code !== 0) throw new Error(`ended with ${code}: ${errors.trim().split("\n").at(-1)}`);
  return lines;
}
