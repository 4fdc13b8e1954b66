// The settings of the router in whole runs: what is reported and saved, what a resumed run repeats, and what is refused. Corrections
// of the choice stay or move toward even load, and never by a gradient; what passes through is in all that is saved.
import assert from "node:assert/strict";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { type TensorSource, writeSafetensors } from "../checkpoint/safetensors/writer.js";
import type { RunEvent } from "../metrics/record.js";
import { scope } from "../torch/scope.js";
import { dtype, fromArray, toArray } from "../torch/tensor.js";
import { train } from "./loop.js";
import { freeRun, prepareRun } from "./prepare.js";
import { goBack } from "./recovery/go-back.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "./testing-run.js";

const ON = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01, router_jitter_noise: 0.05 };
const LAYERS = [1, 2];
const PASSING = "model.layers.3.eh_proj.weight";
const RATE = 0.0625;

function changeConfig({ model }: Workplace, changes: Record<string, unknown>): void {
  const path = join(model, "config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
}

test("router losses are reported beside the loss, and fall; a stopped and resumed run has the same bits", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...ON, gradient_accumulation_steps: 2 });
  const whole = await runTraining(settings);
  const [first, last] = [whole.steps[0], whole.steps[9]];
  assert.ok(
    (first.auxLoss as number) > 2 && (first.zLoss as number) > (last.zLoss as number),
    "two experts of six per token",
  );
  assert.ok(last.loss < first.loss);
  const weights = weightsOf(whole.outcome.folder);

  const again = { ...settings, output_dir: place.out("again") };
  const stopped = await runTraining(again, { stopAt: 4 });
  const resumed = await runTraining({ ...again, resume: stopped.outcome.folder });
  const figures = ({ loss, auxLoss, zLoss }: (typeof whole.steps)[0]) => [loss, auxLoss, zLoss];
  assert.deepEqual([...stopped.steps, ...resumed.steps].map(figures), whole.steps.map(figures));
  assert.ok(weightsOf(resumed.outcome.folder).equals(weights));
});

test("a frozen router is saved as it was loaded; a resumed run keeps it frozen", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { freeze_router: true, max_steps: 4 });
  const stopped = await runTraining(settings, { stopAt: 2 });
  const { outcome } = await runTraining({ ...settings, resume: "latest" });
  await assert.rejects(runTraining({ ...settings, freeze_router: false, resume: stopped.outcome.folder }), {
    message:
      /^freeze_router: false here, but .*checkpoint-2 was trained with true\. Give the same value, or start a new run/,
  });
  const [before, after] = [place.model, outcome.folder].map((folder) =>
    openSafetensors(join(folder, "model.safetensors")),
  );
  for (const name of after.entries.keys()) {
    const same = scope(() => String(toArray(before.read(name))) === String(toArray(after.read(name))));
    assert.equal(same, name.endsWith("mlp.gate.weight"), name);
  }
});

test("a model without routers refuses their settings by name", async (t) => {
  const place = makeWorkplace(t);
  changeConfig(place, { mlp_only_layers: [0, 1, 2] });
  const others = [
    ["router_bias_update_rate", 0.001],
    ["freeze_router", true],
  ] as const;
  for (const [name, value] of [...Object.entries(ON), ...others]) {
    await assert.rejects(prepareRun(settingsFor(place, { init_weights: "random", [name]: value })), {
      name: "UserError",
      message: `${name}: ${value} has no effect: no layer of ${place.model} has a router. Remove it.`,
    });
  }
});

test("what config.json asks for in training and a run leaves off is said", async (t) => {
  const place = makeWorkplace(t);
  const notesWith = async (changes: Record<string, unknown>, settings = {}): Promise<string[]> => {
    changeConfig(place, changes);
    const run = await prepareRun(settingsFor(place, { coupling: "ordinary", method: "store", ...settings }));
    freeRun(run);
    return run.notes;
  };
  assert.deepEqual(await notesWith({}), []);
  assert.deepEqual(await notesWith({ output_router_logits: false, router_aux_loss_coef: 0.02 }), []);
  assert.deepEqual(await notesWith({ output_router_logits: true }), [
    "config.json has router_aux_loss_coef 0.02, which is off here unless it is given as a setting",
  ]);
  assert.deepEqual(await notesWith({}, { router_aux_loss_coef: 0.001 }), []);
  assert.deepEqual(await notesWith({ output_router_logits: false, router_jitter_noise: 0.1 }), [
    "config.json has router_jitter_noise 0.1, which is off here unless it is given as a setting",
  ]);
  assert.deepEqual(await notesWith({ router_jitter_noise: 0, attention_dropout: 0.1 }), [
    "config.json has attention_dropout 0.1, which is not done here",
  ]);
});

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

test("a run that was cut off goes on in its working copy, and its result has what passes through", async (t) => {
  const place = makeWorkplace(t, "glm4-plain");
  addPassing(place);
  const changes = { max_steps: 3, router_bias_update_rate: RATE, parameters: "disk", durability: "step" } as const;
  const settings = settingsFor(place, changes);
  const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
  const run = await prepareRun(settings);
  const write = ({ kind, step }: RunEvent): void => {
    if (kind === "step" && step === 2) throw new Error("cut");
  };
  await assert.rejects(train(run, { write, close: () => {} }), /cut/);
  freeRun(run);
  const resumed = await runTraining({ ...settings, resume: "latest" });
  assert.ok(weightsOf(resumed.outcome.folder).equals(weightsOf(whole.outcome.folder)));
  assert.deepEqual(passedIn(resumed.outcome.folder), [1, Number.NaN, 3]);
});

test("a run goes back to a checkpoint when its model is gone, and what passes through is still there", async (t) => {
  const place = makeWorkplace(t, "glm4-plain");
  addPassing(place);
  const settings = settingsFor(place, { max_steps: 2, save_steps: 1 });
  await runTraining(settings);
  const run = await prepareRun({ ...settings, output_dir: place.out("other") });
  rmSync(place.model, { recursive: true });
  const passing = run.state.network.model.passed?.tensors.find(({ name }) => name === PASSING);
  goBack(run, { step: 1, folder: join(place.out(), "checkpoint-1") });
  assert.deepEqual(passing && scope(() => toArray(passing.read())), [1, Number.NaN, 3]);
  freeRun(run);
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

test("a model without corrections refuses the rate by name", async (t) => {
  const place = makeWorkplace(t);
  await assert.rejects(prepareRun(settingsFor(place, { router_bias_update_rate: 0.001 })), {
    name: "UserError",
    message: `router_bias_update_rate: 0.001 has no effect: no router of ${place.model} has a correction bias. Remove it, or use router_aux_loss_coef.`,
  });
});
