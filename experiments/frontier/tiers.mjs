// Tokens per second with parameters on disk compared with memory, at 1, 4 and 16 micro-batches a step:
//   node experiments/frontier/tiers.mjs [--tokens N] [--layers N] [--experts N] [--steps N] [--optimizer NAME]
//     [--dir FOLDER]
// A model that fits in memory, with the width of Qwen1.5-MoE and a small vocabulary. Both ways run in turn, each in its
// own process; the first step of each does not count. Reading and writing back a block is paid once a step, so more
// micro-batches have less overhead.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    tokens: { type: "string", default: "128" },
    layers: { type: "string", default: "4" },
    experts: { type: "string", default: "8" },
    steps: { type: "string", default: "3" },
    optimizer: { type: "string", default: "adalomo" },
    dir: { type: "string", default: tmpdir() },
  },
});
const script = fileURLToPath(new URL("./work.mjs", import.meta.url));

function tokensPerSecond(more) {
  const folder = mkdtempSync(join(values.dir, "revmoe-tiers-"));
  try {
    mkdirSync(join(folder, "run"));
    const numbers = {
      layers: Number(values.layers),
      experts: Number(values.experts),
      tokens: Number(values.tokens),
      steps: Number(values.steps),
    };
    const options = { ...numbers, vocabulary: 4096, optimizer: values.optimizer, rate: 0.01, folder, ...more };
    const { stdout, stderr, status } = spawnSync(process.execPath, [script, JSON.stringify(options)], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const steps = events.filter(({ kind, step }) => kind === "step" && step > 1);
    const seconds = steps.reduce((sum, step) => sum + step.seconds, 0) / steps.length;
    return {
      rate: events.at(-1).tokens / seconds,
      losses: events.filter(({ kind }) => kind === "step").map(({ loss }) => loss),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

console.log(
  "| micro-batches | tokens a step | device, tokens/s | disk, tokens/s | disk, every step durable | disk / device |",
);
console.log("| --- | --- | --- | --- | --- | --- |");
for (const microBatches of [1, 4, 16]) {
  const ways = [{ parameters: "device" }, { parameters: "disk" }, { parameters: "disk", durability: "step" }];
  const [device, disk, durable] = ways.map((way) => tokensPerSecond({ ...way, microBatches }));
  if (JSON.stringify(device.losses) !== JSON.stringify(disk.losses))
    throw new Error("disk and device differ in their losses");
  const cells = [device, disk, durable].map(({ rate }) => rate.toFixed(1));
  console.log(
    `| ${microBatches} | ${microBatches * Number(values.tokens)} | ${cells.join(" | ")} | ${(disk.rate / device.rate).toFixed(3)} |`,
  );
}
