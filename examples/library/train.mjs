// A whole fine-tuning from a program: node examples/library/train.mjs [MODEL] [STEPS]
// Plans a step, trains on rows of its own, stops when the loss is low enough or Ctrl-C is pressed, and asks the result. Nothing is
// printed but what is printed here.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { open, plan, train, UserError } from "revmoe";

const tiny = fileURLToPath(new URL("../tiny-moe", import.meta.url));
const [model, steps] = [process.argv[2] ?? tiny, Number(process.argv[3] ?? 20)];
const folder = mkdtempSync(join(tmpdir(), "revmoe-example-"));

/** @type {import("revmoe").Settings} */
const settings = {
  model,
  output_dir: join(folder, "run"),
  max_steps: steps,
  max_length: 128,
  per_device_train_batch_size: 2,
  learning_rate: 1e-3,
};

function* rows() {
  for (let i = 0; i < 200; i++) yield { text: `The sum of ${i % 14} and ${i % 3} is ${(i % 14) + (i % 3)}.` };
}

try {
  const { step } = await plan(settings);
  console.log(`a step takes ${(step.terms.peakBytes / 2 ** 20).toFixed(0)} MiB`);

  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const run = train(settings, { rows: rows(), signal: stop.signal });
  for await (const { step, loss } of run) {
    console.log(`step ${step}: loss ${loss.toFixed(4)}`);
    if (loss < 0.5) break; // saves a checkpoint, as the signal does
  }
  const result = await run.result;
  console.log(result.stopped ? `stopped after step ${result.steps}` : "finished");

  if (result.folder) {
    const trained = await open(result.folder);
    let text = "";
    for await (const piece of trained.generate("The sum of", { max_new_tokens: 12, temperature: 0 })) text += piece;
    console.log(`The sum of${text}`);
    trained.close();
  }
} catch (failure) {
  if (!(failure instanceof UserError)) throw failure;
  console.error(failure.message); // one sentence: what is wrong, and what to do
  process.exitCode = 2;
} finally {
  rmSync(folder, { recursive: true });
}
