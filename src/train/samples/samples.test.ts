// Samples of text in a run: when they are written, that they are what the network says, and that training has the same bits with them.
import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { test } from "node:test";

import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { openSource } from "../../checkpoint/source.js";
import { generateTokens } from "../../generate/generate.js";
import { findStopIds } from "../../generate/stop-ids.js";
import { openNetwork } from "../../generate/open-network.js";
import type { SampleRecord } from "../../metrics/record.js";
import { freeModel } from "../../model/model.js";
import { TEST_DEVICE } from "../../torch/testing-device.js";
import { resolveSettings } from "../settings/settings.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf } from "../testing-run.js";

const PROMPTS = { sample_prompts: ["The sum, of 3", "12"], sample_steps: 2, sample_tokens: 9 };
const samplesOf = ({ events }: Ran): SampleRecord[] => events.filter((event) => event.kind === "sample");

for (const changes of [
  {},
  { parameters: "disk", durability: "step" },
  { coupling: "bdia", weights_dtype: "bfloat16", router_jitter_noise: 0.1 },
  { method: "checkpoint", coupling: "ordinary", optimizer: "galore_adamw", galore_rank: 4, max_grad_norm: 1 },
] as const) {
  test(`the same losses and weights with samples and without: ${JSON.stringify(changes)}`, async (t) => {
    const place = makeWorkplace(t);
    const without = settingsFor(place, { max_steps: 5, ...changes, output_dir: place.out("without") });
    const plain = await runTraining(without);
    const sampled = await runTraining({ ...without, ...PROMPTS, output_dir: place.out("with") });
    assert.deepEqual(sampled.losses, plain.losses);
    assert.deepEqual(weightsOf(sampled.outcome.folder), weightsOf(plain.outcome.folder));
    assert.deepEqual(
      sampled.steps.map(({ peakBytes }) => peakBytes),
      plain.steps.map(({ peakBytes }) => peakBytes),
    );
    assert.deepEqual(
      samplesOf(sampled).map(({ step, prompt }) => `${step} ${prompt}`),
      [0, 2, 4, 5].flatMap((step) => PROMPTS.sample_prompts.map((prompt) => `${step} ${prompt}`)),
    );
    assert.equal(samplesOf(plain).length, 0);
  });
}

/** At this rate step 2 is better than step 3. */
const RISING = { max_steps: 9, validation_rows: 2, eval_steps: 1, learning_rate: 0.3 } as const;
for (const changes of [
  { max_steps: 6, sample_steps: 0 },
  { max_steps: 6, sample_steps: 3, save_steps: 6 },
  { ...RISING, max_steps: 3, sample_steps: 2, load_best_model_at_end: true },
  { ...RISING, sample_steps: 0, early_stopping_patience: 1 },
  { ...RISING, sample_steps: 1, early_stopping_patience: 1, load_best_model_at_end: true },
] as const) {
  test(`the last sample is what the saved network says, once: ${JSON.stringify(changes)}`, async (t) => {
    const place = makeWorkplace(t);
    const steady = { weights_dtype: "float32", lr_scheduler_type: "constant" } as const;
    const ran = await runTraining(settingsFor(place, { ...PROMPTS, ...steady, ...changes }));
    const { folder, steps } = ran.outcome;
    if ("early_stopping_patience" in changes) assert.ok(steps < RISING.max_steps, `${steps} steps`);
    const source = openSource(folder);
    const tokenizer = loadTokenizer(source);
    const stopIds = findStopIds(source, tokenizer, { chat: false });
    const network = openNetwork(source, { as: "trained", device: TEST_DEVICE, computeDtype: "float32" });
    for (const prompt of PROMPTS.sample_prompts) {
      const ids = tokenizer.encode(prompt);
      const said = tokenizer.decode([
        ...generateTokens(network, ids, { maxNewTokens: PROMPTS.sample_tokens, stopIds }),
      ]);
      const samples = samplesOf(ran).filter((sample) => sample.prompt === prompt);
      const every = changes.sample_steps || steps;
      const between = Array.from({ length: Math.ceil(steps / every) }, (_, i) => i * every);
      assert.deepEqual(
        samples.map(({ step }) => step),
        [...between, steps],
      );
      assert.deepEqual([samples.at(-1)?.text, samples.at(-1)?.network], [said, "trained"]);
    }
    freeModel(network.model);
  });
}

test("prompts from a file, and those that cannot be", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 1 });
  const write = (name: string, text: string): string => {
    writeFileSync(join(place.folder, name), text);
    return join(place.folder, name);
  };
  const file = write("prompts", "The sum\n\n  12\r\n");
  const ran = await runTraining({ ...settings, sample_prompts: [file, "9"], sample_tokens: 3 });
  assert.deepEqual(
    samplesOf(ran).map(({ prompt }) => prompt),
    ["The sum", "  12", "9", "The sum", "  12", "9"],
  );
  for (const [prompt, message] of [
    [join(place.folder, "none.txt"), /sample_prompts: there is no file .*none\.txt .*Mend the path/],
    ["rows.jsonl", /there is no file rows\.jsonl/],
    [write("empty.txt", "\n \n"), /empty\.txt has no lines/],
    [write("many.txt", "a\n".repeat(101)), /there are 102 prompts \(expected at most 100/],
    ["", /^sample_prompts, prompt 2: it has no tokens \(expected at least one\)\. Give a text to go on from\.$/],
    ["The sum of ".repeat(200), /^sample_prompts, prompt 2: its \d+ tokens go beyond .*\. Shorten the prompt\.$/],
    [write("long", `The sum\n${"12 ".repeat(2000)}`), /^sample_prompts, prompt 3: its \d+ tokens go beyond/],
  ] as const)
    await assert.rejects(runTraining({ ...settings, sample_prompts: ["9", prompt] }), { name: "UserError", message });
});

test("settings without prompts to use them are refused; a prompt keeps its commas", () => {
  const flags = { model: "m", train_file: "r", output_dir: "o" };
  for (const name of ["sample_steps", "sample_tokens"])
    assert.throws(() => resolveSettings({ flags: { ...flags, [name]: "3" } }), {
      message: new RegExp(`--${name.replace("_", "-")} 3 has no effect: there is nothing to go on from`),
    });
  const { settings } = resolveSettings({ flags: { ...flags, sample_prompts: "Call me, please" } });
  assert.deepEqual(settings.sample_prompts, ["Call me, please"]);
});
