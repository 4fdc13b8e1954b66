// Phases of a run: adapters first and everything after, on the paper's block; what does not train costs nothing and stays as it is.
import { layerParameters } from "../model/architecture.js";
import assert from "node:assert/strict";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { loadModel } from "../checkpoint/load.js";
import { openSafetensors } from "../checkpoint/safetensors/file.js";
import { saveModel } from "../checkpoint/save.js";
import { openSource } from "../checkpoint/source.js";
import { withAdapters } from "../model/adapters.js";
import { freeModel, randomModel, weightBytes } from "../model/model.js";
import { OpenWeights } from "../model/weights.js";
import { readArchitecture } from "../families/registry.js";
import { backwardThrough, record } from "../torch/graph.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { linear, mulScalar, sum } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { full, type Tensor, toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { learningRateIn, phaseAt, phasesOf } from "./phases.js";
import type { Run } from "./prepare.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "./testing-run.js";

const STAGED = {
  coupling: "revffn",
  adapter_steps: 4,
  adapter_learning_rate: 2e-2,
  freeze_router: true,
  max_steps: 8,
} as const;

const CORRECTED = { weights_dtype: "bfloat16", weights_correction: "8bit" } as const;

test("phases follow each other, each with its own rate, warm-up and decay; empty ones are left out", (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, {
    coupling: "revffn",
    adapter_steps: 10,
    adapter_learning_rate: 1e-2,
    distill_steps: 5,
    max_steps: 35,
    warmup_ratio: 0.2,
    learning_rate: 1e-3,
  });
  const phases = phasesOf(settings, 35);
  assert.deepEqual(
    phases.map(({ name, firstStep, lastStep }) => [name, firstStep, lastStep]),
    [
      ["adapters", 1, 10],
      ["distillation", 11, 15],
      ["full", 16, 35],
    ],
  );
  const rateAt = (step: number): number => learningRateIn(phaseAt(phases, step), step, settings);
  assert.deepEqual([1, 2, 11, 16, 19].map(rateAt), [5e-3, 1e-2, 1e-3, 2.5e-4, 1e-3]);
  assert.ok(rateAt(10) < 0.2 * 1e-2 && rateAt(35) < 0.2 * 1e-3);
  assert.deepEqual(phasesOf({ ...settings, adapter_steps: 0, distill_steps: 0 }, 7), [
    { name: "full", firstStep: 1, lastStep: 7, peakLearningRate: 1e-3 },
  ]);
  assert.deepEqual(
    phasesOf(settings, 15).map(({ name }) => name),
    ["adapters", "distillation"],
  );
  assert.throws(() => phasesOf(settings, 14), {
    name: "UserError",
    message: /^adapter_steps and distill_steps: 15 of a run of 14 steps \(expected at most 14\)\. Set fewer, or/,
  });
});

/** The tensors of a folder's weights by name. */
function tensorsOf(folder: string): Map<string, string> {
  const file = openSafetensors(join(folder, "model.safetensors"));
  const values = new Map([...file.entries.keys()].map((name) => [name, scope(() => String(toArray(file.read(name))))]));
  file.close();
  return values;
}

/** The model of a workplace with its head tied to the embedding. */
function tie({ model }: Workplace): void {
  const path = join(model, "config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), tie_word_embeddings: true }));
  const source = openSource(model);
  const tied = loadModel(model, { weightsDtype: "auto", device: TEST_DEVICE });
  const made = `${model}-tied`;
  saveModel(made, tied, { source });
  freeModel(tied);
  rmSync(model, { recursive: true });
  renameSync(made, model);
}

for (const tied of [false, true]) {
  test(`${tied ? "a tied head" : "a head of its own"}: adapters alone change first, then all but the router; gradients and state follow`, async (t) => {
    const place = makeWorkplace(t);
    if (tied) tie(place);
    const settings = settingsFor(place, { ...STAGED, save_steps: 4, validation_rows: 2 });
    const original = tensorsOf(place.model);
    const stateBytes: number[] = [];
    const ran = await runTraining(settings, {
      look: (run) => {
        stateBytes.push(run.states.bytes);
        const restart = run.states.restart.bind(run.states);
        run.states.restart = (trains) => {
          restart(trains);
          stateBytes.push(run.states.bytes);
        };
      },
    });
    const first = tensorsOf(join(settings.output_dir, "checkpoint-4"));
    const last = tensorsOf(ran.outcome.folder);
    let adapters = 0;
    let routers = 0;
    for (const [name, values] of first) {
      if (name.includes(".adapters.")) {
        adapters += values.split(",").length;
        assert.notEqual(last.get(name), values, name);
        continue;
      }
      assert.equal(values, original.get(name), `${name} after the first stage`);
      // An expert without a token has a gradient of zero.
      if (!name.includes(".experts."))
        assert.equal(last.get(name) === values, name.endsWith("mlp.gate.weight"), `${name} after the second`);
      if (name.endsWith("mlp.gate.weight")) routers += values.split(",").length;
    }
    const all = [...first.values()].reduce((total, values) => total + values.split(",").length, 0);
    // Adam has two float32 for each.
    assert.deepEqual(stateBytes, [8 * adapters, 8 * (all - routers)]);
    assert.deepEqual(
      ran.steps.map(({ phase }) => phase),
      [...Array(4).fill("adapters"), ...Array(4).fill("full")],
    );
    assert.deepEqual(
      ran.evals.map(({ step }) => step),
      [0, 0, 4, 8, 8],
    );
    assert.ok(ran.losses[3] < ran.losses[0] && ran.losses[7] < ran.losses[4], ran.losses.join());
  });
}

test("the first stage makes gradients of one block's adapters at most", async (t) => {
  const place = makeWorkplace(t);
  const { outcome } = await runTraining(settingsFor(place, { ...STAGED, max_steps: 4 }));
  // A pair of [24, 12] per layer.
  assert.equal(outcome.memory?.gradientBytes, 2 * 24 * 12 * 4);
});

test("autograd makes no gradient for a weight that is not trained", () => {
  const [rows, columns] = [2000, 1000];
  const peakOf = (trained: boolean): number =>
    scope(() => {
      const weight = full([rows, columns], 0.1, "float32");
      const open = new OpenWeights(
        () => weight,
        [{ name: "w", shape: [rows, columns], init: "normal" }],
        "float32",
        () => trained,
      );
      const graph = record([full([1, columns], 1, "float32")], (x) => sum(linear(x, open.get("w"))));
      const before = ledger().liveBytes;
      resetPeak();
      const [dx] = backwardThrough(graph, full([], 1, "float32"));
      assert.ok(Math.abs(toArray(dx as never)[0] - rows * 0.1) < 0.1);
      const peak = ledger().peakBytes - before;
      open.close();
      return peak;
    });
  const whole = rows * columns * 4;
  assert.ok(peakOf(true) >= whole);
  assert.ok(peakOf(false) < whole / 50, `${peakOf(false)} bytes`);
});

test("experts that are not trained are still opened one by one, in the same bits", () => {
  const plain = readArchitecture(
    {
      model_type: "qwen2_moe",
      hidden_size: 8,
      num_attention_heads: 2,
      num_hidden_layers: 1,
      num_experts: 4,
      moe_intermediate_size: 6,
      shared_expert_intermediate_size: 6,
      intermediate_size: 6,
      vocab_size: 9,
      num_experts_per_tok: 2,
    },
    "test",
  );
  const architecture = withAdapters(plain, { sharing: "layer", init: "identity" });
  const model = randomModel(architecture, 1, "float32", TEST_DEVICE);
  assert.ok(weightBytes(model) > 0);
  const specs = layerParameters(architecture.layers[0]);
  const [trained, held] = [true, false].map(
    (trains) =>
      new OpenWeights(
        (name) => model.blocks[0][name],
        specs,
        "float32",
        () => trains,
      ),
  );
  for (const { name } of specs.filter(({ experts }) => experts)) {
    assert.equal(held.experts(name).length, 4);
    assert.deepEqual(held.experts(name).map(toArray), trained.experts(name).map(toArray));
  }
  trained.close();
  held.close();
  freeModel(model);
});

for (const [name, changes] of [
  ["float32", {}],
  ["bfloat16 with corrections", CORRECTED],
  ["galore", { optimizer: "galore_adamw", galore_rank: 4, galore_update_gap: 3 }],
] as const) {
  test(`${name}: stopped in, between and after the stages, a resumed run ends in the same bytes`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { ...STAGED, reconstruction: "stored_hint", ...changes });
    const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
    const weights = weightsOf(whole.outcome.folder);
    for (const stopAt of [2, 4, 6]) {
      const again = { ...settings, output_dir: place.out(`stop-${stopAt}`) };
      const stopped = await runTraining(again, { stopAt });
      const resumed = await runTraining({ ...again, resume: "latest" });
      assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
      assert.deepEqual(
        [...stopped.steps, ...resumed.steps].map(({ learningRate, phase }) => [learningRate, phase]),
        whole.steps.map(({ learningRate, phase }) => [learningRate, phase]),
      );
      assert.ok(weightsOf(resumed.outcome.folder).equals(weights), `stopped after step ${stopAt}`);
    }
    await assert.rejects(
      runTraining({ ...settings, adapter_steps: 3, output_dir: place.out("stop-2"), resume: "latest" }),
      {
        message: /^adapter_steps: 3 here, but .*checkpoint-2 was trained with 4\. Give the same value/,
      },
    );
  });
}

for (const [name, changes] of [
  ["adapters, then all", { adapter_steps: 4 }],
  ["distillation, then all", { distill_steps: 4 }],
  ["adapters, then distillation, with corrections", { adapter_steps: 4, distill_steps: 2, ...CORRECTED }],
] as const) {
  test(`${name}: a run that ends in the first step of a phase goes on from the end of the phase before`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, {
      coupling: "revffn",
      reconstruction: "stored_hint",
      max_steps: 8,
      ...changes,
    });
    const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
    const spoilt = (run: Run): void => {
      const { model } = run.state.network;
      const { finalNorm } = model.architecture;
      const spoil = (hidden_TD: Tensor): Tensor =>
        run.state.phase === run.phases[0] ? hidden_TD : mulScalar(hidden_TD, Number.NaN);
      model.architecture = { ...model.architecture, finalNorm: (...of) => spoil(finalNorm(...of)) };
    };
    await assert.rejects(runTraining(settings, { look: spoilt }), {
      message: /^step 5: .* The end of step 4 is saved: go on with resume: /,
    });
    const resumed = await runTraining({ ...settings, resume: "latest" });
    assert.deepEqual(resumed.losses, whole.losses.slice(4));
    assert.ok(weightsOf(resumed.outcome.folder).equals(weightsOf(whole.outcome.folder)));
  });
}
