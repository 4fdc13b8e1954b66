// Runs from releases in FP8 and MXFP4: their matrices are decoded once, and what is saved is an ordinary model, which goes on with
// the same bits.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { openFolder } from "../folder.js";
import { exportFolder } from "../export.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../../train/testing-run.js";

const GOLDEN = "deepseek3-fp8";

test("a run from a quantised release saves an ordinary model, and goes on with the same bits", async (t) => {
  const place = makeWorkplace(t, GOLDEN);
  const settings = settingsFor(place, { max_steps: 4 });
  const { outcome } = await runTraining(settings, {
    look: ({ notes }) => {
      assert.match(notes.join("\n"), /weights are FP8 in blocks of 8 x 16, and decoded as they are read: to float32/);
      assert.match(
        notes.join("\n"),
        /has tensor model\.layers\.2\.eh_proj\.weight \(2\.\d+ KiB\) that no layer here uses/,
      );
    },
  });
  assert.doesNotMatch(readFileSync(join(outcome.folder, "config.json"), "utf8"), /quantization_config/);
  const saved = openFolder(outcome.folder);
  assert.deepEqual([...new Set([...saved.tensors.values()].map(({ dtype }) => dtype))], ["float32"]);
  assert.ok(saved.tensors.has("model.layers.2.eh_proj.weight"));
  saved.close();
  const bits = weightsOf(outcome.folder);

  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 2 });
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
  assert.ok(weightsOf(resumed.outcome.folder).equals(bits));

  const disk = await runTraining({ ...settings, parameters: "disk", output_dir: place.out("disk") });
  assert.ok(weightsOf(disk.outcome.folder).equals(bits));

  // From an ordinary folder of the same weights.
  const plain = place.out("plain");
  exportFolder(plain, place.model, { layout: "fused", dtype: "auto", maxShardBytes: 5e9 });
  const other = await runTraining({ ...settings, model: plain, output_dir: place.out("other") });
  assert.ok(weightsOf(other.outcome.folder).equals(bits));
});

test("a run from packed experts trains them and their biases, whole or in groups, from memory or disk", async (t) => {
  const place = makeWorkplace(t, "gptoss-mxfp4");
  const settings = settingsFor(place, { max_steps: 3, weights_dtype: "float32" });
  const { outcome } = await runTraining(settings, {
    look: ({ notes }) => assert.match(notes.join("\n"), /weights are MXFP4, and decoded as they are read: to bfloat16/),
  });
  const saved = openFolder(outcome.folder);
  assert.deepEqual(saved.tensors.get("model.layers.0.mlp.experts.gate_up_proj")?.shape, [3, 32, 64]);
  saved.close();
  const bits = weightsOf(outcome.folder);
  for (const [name, changes] of Object.entries({
    groups: { expert_group_size: 2 },
    disk: { parameters: "disk" },
    both: { parameters: "disk", expert_group_size: 1 },
  } as const)) {
    const other = await runTraining({ ...settings, ...changes, output_dir: place.out(name) });
    assert.ok(weightsOf(other.outcome.folder).equals(bits), name);
  }
  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 2 });
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
  assert.ok(weightsOf(resumed.outcome.folder).equals(bits), "resumed");
});
