// The commands on a .gguf file: training from it leaves a Hugging Face folder that stands alone, and it can be sampled.
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { openSource } from "../../checkpoint/source.js";
import { runCli } from "../../cli/program.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../../train/testing-run.js";
import { COMMANDS } from "../registry.js";

const MIXTRAL = fileURLToPath(new URL("../../../test/golden/gguf/mixtral-window.gguf", import.meta.url));
const TEXT = "The sum of 3 and 4, in other words.";

async function generate(model: string): Promise<unknown> {
  const written: string[] = [];
  const into = { write: (text: string) => written.push(text) };
  const words = [
    "generate",
    "--model",
    model,
    "--prompt",
    TEXT,
    "--max-new-tokens",
    "8",
    "--temperature",
    "0",
    "--as",
    "ordinary",
  ];
  const program = { version: () => "1", commands: COMMANDS };
  const code = await runCli(program, [...words, "--json", "--compute-dtype", "float32", "--threads", "1"], into, into);
  assert.equal(code, 0, written.join(""));
  const { text, promptTokens } = JSON.parse(written.join("")) as Record<string, unknown>;
  return [text, promptTokens];
}

test("trained from a .gguf file, resumed with the same bits, saved as a folder that needs the file no more", async (t) => {
  const place = makeWorkplace(t);
  const model = join(place.folder, "m.gguf");
  copyFileSync(MIXTRAL, model);
  const settings = settingsFor({ ...place, model }, { max_steps: 4, gamma: -1 });
  const whole = await runTraining(settings);
  assert.ok(whole.losses[3] < whole.losses[0], `${whole.losses}`);
  const { folder } = whole.outcome;
  assert.deepEqual(readdirSync(folder).sort(), [
    "config.json",
    "model.safetensors",
    "revmoe-manifest.json",
    "revmoe.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
  assert.deepEqual([config.model_type, config.torch_dtype], ["mixtral", "bfloat16"]);
  assert.deepEqual(loadTokenizer(folder).encode(TEXT), loadTokenizer(openSource(model)).encode(TEXT));

  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 2 });
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
  assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
  assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(folder));

  // At a learning rate of zero, what comes out is what went in.
  const still = await runTraining({
    ...settings,
    max_steps: 1,
    learning_rate: 0,
    weight_decay: 0,
    output_dir: place.out("still"),
  });
  const said = await generate(model);
  renameSync(model, `${model}.away`);
  assert.deepEqual(await generate(still.outcome.folder), said);
});
