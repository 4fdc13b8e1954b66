// Loss curves of our optimizers, for comparison with their published implementations:
//   node experiments/optimizers/ours.mjs FOLDER [steps]
// Writes FOLDER/tokens.json (the rows of every step: packs of 64 tokens of Moby-Dick, two a step) and FOLDER/ours.json:
// the losses of every case, from examples/tiny-moe in float32 as the ordinary network, one micro-batch a step, clipped
// by the norm of all gradients. The band shows what the same arithmetic gives in another order: with other tiles of the
// loss, and checkpoint instead of store. Existing curves are kept. theirs.py does the same in PyTorch; compare.mjs
// makes the table.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { makeData } from "../../examples/make-data.mjs";
import {
  engineInfo,
  freeRun,
  learningRateAt,
  phaseAt,
  prepareRun,
  resolveSettings,
  stepOptions,
  trainStep,
} from "revmoe";
import { CASES, COURSE, ROWS, ROW_TOKENS } from "./cases.mjs";

const folder = process.argv[2];
const steps = Number(process.argv[3] ?? 200);
mkdirSync(folder, { recursive: true });
const temporary = mkdtempSync(join(tmpdir(), "revmoe-optimizers-"));
const { train } = makeData("moby-dick", temporary);
// Every case has the same batches; its run needs a file with any row.
const one = join(temporary, "one.jsonl");
writeFileSync(
  one,
  readFileSync(train, "utf8")
    .slice(0, 2000)
    .replace(/[^ ]*$/, '"}')
    .split("\n")[0],
);

const open = (changes, train_file = one) =>
  prepareRun(
    resolveSettings({
      flags: {
        model: fileURLToPath(new URL("../../examples/tiny-moe", import.meta.url)),
        train_file,
        output_dir: join(temporary, "run"),
        max_steps: steps,
        max_length: ROW_TOKENS,
        per_device_train_batch_size: ROWS,
        coupling: "ordinary",
        method: "store",
        weights_dtype: "float32",
        compute_dtype: "float32",
        threads: 1,
        max_grad_norm: COURSE.maxGradNorm,
        ...changes,
      },
    }).settings,
  );

async function course(changes, batches) {
  const run = await open(changes);
  const { learning_rate: peak } = run.settings;
  const losses = [];
  for (let step = 1; step <= steps; step++) {
    const learningRate = learningRateAt(step, {
      type: "cosine",
      peak,
      warmupSteps: COURSE.warmupSteps,
      totalSteps: steps,
      minRatio: 0.1,
    });
    const options = { ...stepOptions(run.settings, phaseAt(run.phases, step), step), learningRate };
    losses.push(trainStep(run.state.network, run.states, [batches[step - 1]], options).loss);
  }
  freeRun(run);
  return losses;
}

const first = await open({}, train);
const batches = Array.from({ length: steps }, () => first.data.next());
freeRun(first);
const rates = Array.from({ length: steps }, (_, i) =>
  learningRateAt(i + 1, { type: "cosine", peak: 1, warmupSteps: COURSE.warmupSteps, totalSteps: steps, minRatio: 0.1 }),
);
const rowsOf = ({ tokens, labels, segments }) => {
  let start = 0;
  return segments.map((length) => {
    const range = [start, (start += length)];
    return { tokens: Array.from(tokens.slice(...range)), labels: Array.from(labels.slice(...range)) };
  });
};
writeFileSync(
  join(folder, "tokens.json"),
  JSON.stringify({ rates, cases: CASES, course: COURSE, steps: batches.map(rowsOf) }),
);

const kept = join(folder, "ours.json");
const result = existsSync(kept)
  ? JSON.parse(readFileSync(kept, "utf8"))
  : { libtorch: engineInfo().version, date: new Date().toISOString().slice(0, 10), losses: {} };
for (const [curve, changes] of Object.entries({ whole: {}, again: { method: "checkpoint", loss_tile_tokens: 48 } })) {
  for (const [name, { settings }] of Object.entries(CASES)) {
    if (result.losses[name]?.[curve]?.length === steps) continue;
    const losses = await course({ ...settings, ...changes }, batches);
    result.losses[name] = { ...result.losses[name], [curve]: losses };
    console.log(curve, name, losses[0].toFixed(4), losses[steps - 1].toFixed(4));
    writeFileSync(kept, JSON.stringify(result));
  }
}
rmSync(temporary, { recursive: true });
