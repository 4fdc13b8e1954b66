// A disk run killed with SIGKILL at twenty random moments, for both durabilities:
//   node experiments/frontier/kill.mjs [kills] [seed]
// The tiny model of examples/, adamw8bit, bfloat16. Each process continues from what the last one left; losses of all
// steps and the final weights must equal those of an undisturbed run in memory. Prints a line per durability; exits
// with 1 on failure.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { resolveSettings } from "revmoe";
// The only import from outside the library: the code with which the tests kill runs.
import { crashingRun } from "../../dist/train/testing-crash.js";
import { makeData } from "../../examples/make-data.mjs";

const [kills, seed] = [Number(process.argv[2] ?? 20), Number(process.argv[3] ?? 1)];
const folder = mkdtempSync(join(tmpdir(), "revmoe-kill-"));
const { train } = makeData("moby-dick", folder);
const common = {
  model: fileURLToPath(new URL("../../examples/tiny-moe", import.meta.url)),
  train_file: train,
  optimizer: "adamw8bit",
  weights_dtype: "bfloat16",
  learning_rate: 1e-3,
  max_length: 128,
  per_device_train_batch_size: 1,
  gradient_accumulation_steps: 2,
  max_steps: 24,
};
const run = async (flags, delays) => {
  const { settings } = resolveSettings({ flags: { ...common, ...flags } });
  const started = performance.now();
  const lives = await crashingRun(settings, delays);
  return {
    lives,
    seconds: (performance.now() - started) / 1000,
    weights: readFileSync(join(settings.output_dir, "final/model.safetensors")),
  };
};

let random = seed;
const draw = () => (random = (random * 48_271) % 2_147_483_647) / 2_147_483_647;
try {
  const whole = await run({ output_dir: join(folder, "whole/run") }, []);
  const { losses, stepMs: all } = whole.lives[0];
  const stepMs = [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
  for (const durability of ["step", "snapshot"]) {
    const flags = { parameters: "disk", durability, output_dir: join(folder, durability, "run") };
    if (durability === "snapshot") flags.save_steps = 1;
    // Up to three steps after training begins, so that a run is killed many times before it ends.
    const delays = Array.from({ length: kills }, () => draw() * 3 * stepMs);
    const { lives, weights } = await run(flags, delays);
    const wrong = lives.flatMap((life) => [...life.losses].filter(([step, loss]) => loss !== losses.get(step)));
    const equal = weights.equals(whole.weights) && wrong.length === 0;
    const killed = lives.filter((life) => life.killed).length;
    console.log(
      `${durability}: killed ${killed} times, went on from steps ${lives.map(({ startStep }) => startStep ?? "-").join(" ")}: ${equal ? "same bits" : "DIFFERENT"}`,
    );
    if (!equal) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
