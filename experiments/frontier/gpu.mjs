// Steps on a GPU, each way in its own process:
//   node experiments/frontier/gpu.mjs [--geometry NAME] [--layers N] [--experts N] [--vocabulary N] [--tokens N]
//     [--rows N] [--micro-batches N] [--steps N] [--ways NAME,...] [--optimizer NAME] [--rate X] [--tile-tokens N]
//     [--loss-tile-tokens N] [--theirs NAME,...] [--device cuda:N] [--profile]
// A released geometry (geometry.mjs), by default Qwen1.5-MoE-A2.7B (24 layers: 14.3 B parameters), with random bfloat16
// weights; one batch of real text is repeated. Ways: device, host (parameters and state in main memory), disk, and
// checkpoint (parameters on the device, the ordinary network). The card's memory in use is nvidia-smi's figure, which
// includes all that the process uses. --theirs runs transformers on the same geometry (adamw, adafactor; theirs.py).
// --profile prints the GPU's time by kernel instead of the table, by default for 2 layers (profile.mjs). --device cpu
// tries everything on a CPU, except the card's memory.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { configOf, GEOMETRIES } from "./geometry.mjs";
import { describeStep } from "./kernel-groups.mjs";
import { profileStep } from "./profile.mjs";

const { values } = parseArgs({
  options: {
    geometry: { type: "string", default: "qwen1.5-moe-a2.7b" },
    layers: { type: "string" },
    experts: { type: "string" },
    vocabulary: { type: "string" },
    tokens: { type: "string", default: "2048" },
    rows: { type: "string", default: "4" },
    "micro-batches": { type: "string", default: "1" },
    steps: { type: "string", default: "4" },
    ways: { type: "string", default: "device,host" },
    optimizer: { type: "string", default: "adalomo" },
    rate: { type: "string", default: "0.003" },
    "loss-tile-tokens": { type: "string", default: "1024" },
    "tile-tokens": { type: "string" },
    theirs: { type: "string", default: "" },
    device: { type: "string", default: "cuda" },
    profile: { type: "boolean", default: false },
    dir: { type: "string", default: tmpdir() },
  },
});
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const list = (text) => text.split(",").filter(Boolean);
const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

if (!GEOMETRIES.includes(values.geometry)) {
  console.error(`--geometry: ${values.geometry} is not known (expected ${GEOMETRIES.join(", ")})`);
  process.exit(2);
}
const numbers = Object.fromEntries(
  ["layers", "experts", "vocabulary"].flatMap((name) => (values[name] ? [[name, Number(values[name])]] : [])),
);
if (values.profile) numbers.layers ??= 2;
const config = configOf(values.geometry, numbers);
const onCpu = values.device === "cpu";
const card = spawnSync("nvidia-smi", ["--query-gpu=name,driver_version", "--format=csv,noheader"], {
  encoding: "utf8",
});
if (card.status !== 0 && !onCpu) {
  console.error(
    "nvidia-smi: no NVIDIA GPU answers here, which this benchmark is for. experiments/frontier/run.mjs measures a CPU and its disk.",
  );
  process.exit(1);
}
console.log(onCpu ? cpus()[0].model : card.stdout.trim());
if (values.profile) {
  for (const way of list(values.ways)) profiled(way);
  process.exit();
}
console.log(
  "| way | parameters | optimizer | tokens a step | s a step | tokens/s | peak of tensors | planned | card in use | main memory, planned | loss |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
for (const way of list(values.ways)) await ours(way);
for (const optimizer of list(values.theirs)) await theirs(optimizer);

/** The options for work.mjs. */
function optionsOf(way, folder, steps = Number(values.steps)) {
  const onDevice = way === "checkpoint" || way === "store";
  return {
    geometry: values.geometry,
    ...numbers,
    tokens: Number(values.tokens),
    rows: Number(values.rows),
    microBatches: Number(values["micro-batches"]),
    steps,
    rate: Number(values.rate),
    lossTileTokens: Number(values["loss-tile-tokens"]),
    ...(values["tile-tokens"] === undefined ? {} : { tileTokens: Number(values["tile-tokens"]) }),
    optimizer: values.optimizer,
    device: values.device,
    parameters: onDevice ? "device" : way,
    ...(onDevice ? { method: way } : {}),
    folder,
  };
}

function profiled(way) {
  const folder = mkdtempSync(join(values.dir, "revmoe-gpu-"));
  try {
    const { by, kernels } = profileStep((steps) => {
      const own = mkdtempSync(join(folder, "run-"));
      mkdirSync(join(own, "run"));
      return [process.execPath, here("./work.mjs"), JSON.stringify(optionsOf(way, own, steps))];
    });
    const tokens = Number(values.tokens) * Number(values.rows) * Number(values["micro-batches"]);
    console.log(
      `\n${way}, ${values.optimizer}, ${config.num_hidden_layers} layers, ${tokens} tokens; kernels by ${by}\n`,
    );
    console.log(describeStep(kernels));
  } catch (failure) {
    console.error(failure.message);
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function ours(way) {
  const folder = mkdtempSync(join(values.dir, "revmoe-gpu-"));
  mkdirSync(join(folder, "run"));
  const options = optionsOf(way, folder);
  const { events, cardBytes } = await watched(process.execPath, [here("./work.mjs"), JSON.stringify(options)]);
  rmSync(folder, { recursive: true, force: true });
  const [made, planned, end] = ["made", "planned", "end"].map((kind) => events.find((event) => event.kind === kind));
  if (!end) {
    process.exitCode = 1;
    return console.log(`| ${way} | failed: ${events.at(-1)?.text ?? "no output"} |`);
  }
  const steps = events.filter(({ kind }) => kind === "step");
  const seconds = median(steps.slice(1).map((step) => step.seconds));
  const cells = [
    way,
    `${(made.parameters / 1e9).toFixed(2)} B`,
    values.optimizer,
    end.tokens,
    seconds.toFixed(2),
    (end.tokens / seconds).toFixed(0),
    gib(end.memory.peakBytes),
    gib(planned.deviceBytes),
    onCpu ? "-" : gib(cardBytes),
    gib(planned.hostBytes),
    steps.map(({ loss }) => loss.toFixed(3)).join(", "),
  ];
  console.log(`| ${cells.join(" | ")} |`);
  console.log(`  made in ${made.makeS.toFixed(1)} s; updates ${steps.at(-1).updateS.toFixed(2)} s; ${end.terms}`);
}

async function theirs(optimizer) {
  const folder = mkdtempSync(join(values.dir, "revmoe-theirs-"));
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const { tokens, rows, steps } = values;
  const { events } = await watched("python3", [here("./theirs.py"), optimizer, folder, tokens, rows, steps]);
  rmSync(folder, { recursive: true });
  console.log(events.map(({ text, ...rest }) => text ?? JSON.stringify(rest)).join("\n"));
}

/** The lines that a program prints, as JSON or as text, and the highest use of the card's memory meanwhile. */
async function watched(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const smi = spawn("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms", "100"]);
  smi.on("error", () => {});
  let most = 0;
  smi.stdout.on("data", (data) => {
    for (const line of String(data).split("\n")) most = Math.max(most, Number(line) || 0);
  });
  const events = [];
  let failure = "";
  child.stderr.on("data", (data) => (failure = (failure + data).slice(-2000)));
  const ended = new Promise((done) => child.on("close", done));
  for await (const line of createInterface({ input: child.stdout })) events.push(parsed(line));
  const said = failure.trim().split("\n");
  if ((await ended) !== 0) events.push({ text: said.find((line) => /Error/.test(line)) ?? said.at(-1) });
  smi.kill();
  return { events, cardBytes: most * 2 ** 20 };
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return { text: line };
  }
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
