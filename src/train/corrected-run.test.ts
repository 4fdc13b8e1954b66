// Runs of a model whose router corrects its choice: the corrections stay or move toward even load, and never by a gradient; what
// passes through is in checkpoints and the result, wherever parameters lie.
import assert from "node:assert/strict";
import { renameSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { type TensorSource, writeSafetensors } from "../checkpoint/safetensors/writer.js";
import { scope } from "../torch/scope.js";
import { dtype, fromArray, toArray } from "../torch/tensor.js";
import { prepareRun } from "./prepare.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "./testing-run.js";

const LAYERS = [1, 2];
const PASSING = "model.layers.3.eh_proj.weight";
const RATE = 0.0625;

function correctionsIn(folder: string): number[][] {
  const file = openSafetensors(join(folder, "model.safetensors"));
  const read = (layer: number): number[] =>
    scope(() => {
      const correction = file.read(`model.layers.${layer}.mlp.gate.e_score_correction_bias`);
      assert.equal(dtype(correction), "float32");
      return toArray(correction);
    });
  const found = LAYERS.map(read);
  file.close();
  return found;
}

/** Adds a tensor that passes through. */
function addPassing({ model }: Workplace): void {
  const path = join(model, "model.safetensors");
  const file = openSafetensors(path);
  const own = [...file.entries.values()].map((entry) => ({ ...entry, read: () => file.read(entry.name) }));
  const values = [1, Number.NaN, 3];
  const added: TensorSource = {
    name: PASSING,
    dtype: "float32",
    shape: [3],
    read: () => fromArray(values, [3], "float32"),
  };
  writeSafetensors(`${path}.new`, [...own, added], { format: "pt" });
  file.close();
  renameSync(`${path}.new`, path);
}

const passedIn = (folder: string): number[] => {
  const file = openSafetensors(join(folder, "model.safetensors"));
  const values = scope(() => toArray(file.read(PASSING)));
  file.close();
  return values;
};

for (const [name, changes] of [
  ["in memory, with weight decay", { weight_decay: 0.5, optimizer: "adamw" }],
  ["on disk, clipped, experts in groups", { parameters: "disk", max_grad_norm: 0.1, expert_group_size: 2 }],
  ["bfloat16 weights, adafactor", { weights_dtype: "bfloat16", optimizer: "adafactor" }],
] as const) {
  test(`corrections stay as they are, and what passes through too: ${name}`, async (t) => {
    const place = makeWorkplace(t, "glm4-plain");
    addPassing(place);
    const { outcome } = await runTraining(settingsFor(place, { max_steps: 3, ...changes }), {
      look: ({ notes }) =>
        assert.match(notes.join("\n"), /has tensor model\.layers\.3\.eh_proj\.weight \(12 B\) that no layer/),
    });
    assert.deepEqual(correctionsIn(outcome.folder), correctionsIn(place.model));
    assert.deepEqual(passedIn(outcome.folder), [1, Number.NaN, 3]);
  });
}

test("router_bias_update_rate moves each by the rate and step, the same after a stop, from disk too", async (t) => {
  const place = makeWorkplace(t, "glm4-plain");
  addPassing(place);
  const changes = { max_steps: 4, router_bias_update_rate: RATE, gradient_accumulation_steps: 2, max_grad_norm: 1 };
  const settings = settingsFor(place, changes);
  const whole = await runTraining(settings);
  const [before, after] = [place.model, whole.outcome.folder].map(correctionsIn);
  for (const [i, layer] of after.entries()) {
    const moves = layer.map((value, e) => (value - before[i][e]) / RATE);
    assert.ok(moves.some((move) => move !== 0));
    for (const move of moves) assert.ok(Math.abs(move - Math.round(move)) < 1e-5 && Math.abs(move) < 4.5, `${move}`);
  }
  const bits = weightsOf(whole.outcome.folder);

  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 2 });
  assert.deepEqual(passedIn(stopped.outcome.folder), [1, Number.NaN, 3]);
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder, save_steps: 1, save_total_limit: 1 });
  assert.ok(weightsOf(resumed.outcome.folder).equals(bits));

  const disk = await runTraining({
    ...settings,
    parameters: "disk",
    durability: "step",
    output_dir: place.out("disk"),
  });
  assert.ok(weightsOf(disk.outcome.folder).equals(bits));
});

test("the same bits of everything, corrections moving, for rebuilt, recomputed and stored activations", async (t) => {
  const place = makeWorkplace(t, "glm4-groups");
  const bits = new Set<string>();
  for (const method of ["reversible", "checkpoint", "store"] as const) {
    const changes = { method, max_steps: 3, router_bias_update_rate: RATE, gamma: -1, stream: "int64" } as const;
    const { outcome } = await runTraining(settingsFor(place, { ...changes, output_dir: place.out(method) }));
    bits.add(weightsOf(outcome.folder).toString("base64"));
  }
  assert.equal(bits.size, 1);
});

test("a model without corrections refuses the rate by name", (t) => {
  const place = makeWorkplace(t);
  assert.throws(() => prepareRun(settingsFor(place, { router_bias_update_rate: 0.001 })), {
    name: "UserError",
    message: `router_bias_update_rate: 0.001 has no effect: no router of ${place.model} has a correction bias. Remove it, or use router_aux_loss_coef.`,
  });
});
