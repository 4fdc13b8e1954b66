// The streamed teacher: the same logits as the loaded original, no second copy of it, and a student that comes nearer.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { loadModel } from "../checkpoint/load.js";
import { modelTensors } from "../checkpoint/save.js";
import { writeSafetensors } from "../checkpoint/safetensors/writer.js";
import { openSource } from "../checkpoint/source.js";
import { freeModel, type Model, randomModel, weightBytes } from "../model/model.js";
import { readArchitecture } from "../families/registry.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { losses } from "../reversible/loss.js";
import type { Objective } from "../reversible/objectives.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams } from "../reversible/streams.js";
import { ledger, resetPeak } from "../torch/memory.js";
import { mulScalar_ } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import type { DType } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { hiddenStates } from "../network/evaluate.js";
import { type Network, openHead, outerNames } from "../network/network.js";
import { randomBatch } from "./testing-batch.js";
import type { TrainSettings } from "../train/settings/settings.js";
import { Teacher } from "./teacher.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf } from "../train/testing-run.js";
import { deviceStore } from "../store/device.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const saved = (kind: RegExp): string[] =>
  readdirSync(join(GOLDEN, "saved"))
    .filter((name) => kind.test(name))
    .map((name) => `saved/${name}`);
const SOURCES = [
  "hf-tiny",
  "hf-tied",
  "gguf/hf-tiny.gguf",
  "gguf/mixtral-window.gguf",
  "gguf/qwen3-plain.gguf",
  ...saved(/./),
];

const networkOf = (model: Model, computeDtype: DType): Network => ({
  model,
  coupling: ordinary,
  format: floatStreams("float32"),
  computeDtype,
  device: TEST_DEVICE,
  store: deviceStore(TEST_DEVICE),
  lossTileTokens: 16,
});

/** What an objective says of the logits of a network. */
function measured(objective: Objective, network: Network, batch: ReturnType<typeof randomBatch>): number {
  const { norm, head } = outerNames(network);
  const { model, computeDtype } = network;
  const [hidden_TD] = hiddenStates(network, [batch]);
  const open = openHead(network);
  try {
    return scope(() => {
      const normed_TD = model.architecture.finalNorm(open.get(norm.name), hidden_TD, computeDtype);
      return losses({
        hidden_TD: normed_TD,
        head_VD: open.get(head.name),
        objective,
        tileTokens: 7,
        scales: model.architecture.scales,
      }).total;
    });
  } finally {
    open.close();
    free(hidden_TD);
  }
}

for (const computeDtype of ["float32", "bfloat16"] as const) {
  test(`${computeDtype}: of every layout, type and family, the logits are those of the loaded original`, () => {
    for (const name of SOURCES) {
      const source = openSource(join(GOLDEN, name));
      const before = ledger(TEST_DEVICE);
      const model = loadModel(source, { weightsDtype: "auto", device: TEST_DEVICE });
      const network = networkOf(model, computeDtype);
      const teacher = new Teacher(source, network, 1);
      const batches = [randomBatch([9, 4], 1, 30), randomBatch([6], 2, 30)];
      const targets = teacher.targets(batches);
      for (const [i, objective] of targets.objectives.entries()) {
        const distance = measured(objective, network, batches[i]);
        // Weights that are used as they lie in the file need not lie at 64 bytes, on which MKL's last bits depend.
        if (computeDtype === "bfloat16") assert.equal(distance, 0, name);
        else assert.ok(Math.abs(distance) < 1e-6, `${name}: ${distance}`);
      }
      scope(() => void mulScalar_(model.outer[outerNames(network).norm.name], 1.05));
      assert.ok(measured(targets.objectives[0], network, batches[0]) > 0, name);
      targets.free();
      teacher.close();
      freeModel(model);
      assert.deepEqual(
        ledger(TEST_DEVICE).liveBytes + ledger(TEST_DEVICE).mappedBytes + ledger(TEST_DEVICE).tensors,
        before.liveBytes + before.mappedBytes + before.tensors,
      );
    }
  });
}

/** A folder with a random model; removed after the test. */
function writeDeep(
  t: TestContext,
  layout: "per-expert" | "fused",
  layers: number,
): { folder: string; block: number; whole: number } {
  const folder = join(mkdtempSync(join(tmpdir(), "revmoe-teacher-")), "model");
  t.after(() => rmSync(join(folder, ".."), { recursive: true, force: true }));
  mkdirSync(folder);
  const source = {
    ...TINY_QWEN2_MOE,
    num_experts: 16,
    moe_intermediate_size: 64,
    num_hidden_layers: layers,
    mlp_only_layers: [],
  };
  const model = randomModel(readArchitecture(source, "test"), 3, "float32", TEST_DEVICE);
  writeSafetensors(join(folder, "model.safetensors"), modelTensors(model, { layout }));
  writeFileSync(join(folder, "config.json"), JSON.stringify(source));
  const sizes = { block: weightBytes({ ...model, outer: {}, blocks: [model.blocks[0]] }), whole: weightBytes(model) };
  freeModel(model);
  return { folder, ...sizes };
}

const copies = TEST_DEVICE !== "cpu" && "no weights of a file are used as they are there";

test("a pass never holds more than one block's weights, and none where the file's are used as they are", {
  skip: copies,
}, (t) => {
  const batch = randomBatch([40], 1);
  for (const layout of ["per-expert", "fused"] as const) {
    const { folder, block, whole } = writeDeep(t, layout, 12);
    assert.ok(whole > 10 * block);
    const model = loadModel(folder, { weightsDtype: "auto", device: TEST_DEVICE });
    const network = networkOf(model, "float32");
    const peakOf = (pass: () => void): number => {
      const before = ledger(TEST_DEVICE).liveBytes;
      resetPeak(TEST_DEVICE);
      pass();
      return ledger(TEST_DEVICE).peakBytes - before;
    };
    const loaded = peakOf(() => free(...hiddenStates(network, [batch])));
    const teacher = new Teacher(openSource(folder), network, 1);
    let bytes = 0;
    const streamed = peakOf(() => {
      const before = ledger(TEST_DEVICE).liveBytes;
      const targets = teacher.targets([batch]);
      ({ bytes } = targets);
      assert.equal(ledger(TEST_DEVICE).liveBytes - before, bytes);
      targets.free();
      assert.equal(ledger(TEST_DEVICE).liveBytes, before);
    });
    assert.equal(bytes, 40 * 32 * 4, "the final hidden states; the head is a view of its file");
    // Norms and biases at odd offsets of a file are copied.
    const allowed = layout === "fused" ? block / 50 : block;
    assert.ok(streamed - loaded <= allowed, `${layout}: ${streamed} streamed, ${loaded} loaded, ${block} a block`);
    teacher.close();
    freeModel(model);
  }
});

const DISTILLED = {
  gamma: -1,
  distill_steps: 6,
  distill_learning_rate: 5e-3,
  max_steps: 8,
  validation_rows: 2,
} as const;

test("learning the original's logits brings the held-out loss back; then labels are learnt; the teacher's bytes are a term", async (t) => {
  const place = makeWorkplace(t);
  let teacherBytes = 0;
  const ran = await runTraining(
    settingsFor(place, { ...DISTILLED, distill_steps: 20, max_steps: 20, per_device_train_batch_size: 4 }),
  );
  teacherBytes = ran.outcome.memory?.teacherBytes ?? 0;
  assert.ok(ran.losses[19] < 0.5 * ran.losses[0], ran.losses.join());
  const [original, converted, polished] = ran.evals.map(({ evalLoss }) => evalLoss);
  assert.ok(
    converted > original && polished - original < 0.7 * (converted - original),
    `${original} ${converted} ${polished}`,
  );
  const tokens = ran.steps[19].trainedTokens;
  if (!copies) assert.equal(teacherBytes, tokens * 24 * 4);
  assert.ok((ran.outcome.memory?.workBytes ?? 0) > 0);

  const mixed = await runTraining(settingsFor(place, { ...DISTILLED, output_dir: place.out("mixed") }));
  assert.deepEqual(
    mixed.steps.map(({ phase }) => phase),
    [...Array(6).fill("distillation"), "full", "full"],
  );
  assert.deepEqual(
    mixed.evals.map(({ step, network }) => [step, network]),
    [
      [0, "ordinary"],
      [0, "trained"],
      [6, "trained"],
      [8, "trained"],
      [8, "ordinary"],
    ],
  );
  assert.equal(mixed.outcome.memory?.teacherBytes, 0);
});

test("every method and micro-batches give the same bits; all tokens count, also those without a label", async (t) => {
  const place = makeWorkplace(t);
  const losses = async (changes: Partial<TrainSettings>): Promise<Ran> =>
    runTraining(
      settingsFor(place, {
        ...DISTILLED,
        gradient_accumulation_steps: 2,
        max_steps: 6,
        distill_steps: 4,
        distill_temperature: 2,
        ...changes,
      }),
    );
  const reversible = await losses({});
  assert.ok(reversible.losses.slice(0, 4).every((loss) => loss > 0));
  const { trainedTokens, tokensPerSecond, stepMs } = reversible.steps[0];
  assert.equal(trainedTokens, Math.round((tokensPerSecond * stepMs) / 1000));
  for (const method of ["checkpoint", "store"] as const)
    assert.deepEqual((await losses({ method })).losses, reversible.losses, method);
  // With a limit that is never reached, the second backward pass finds the same targets.
  assert.deepEqual((await losses({ max_grad_norm: 1e9 })).losses, (await losses({ max_block_grad_norm: 0 })).losses);
});

test("stopped in, at the end of and after distillation, a resumed run ends in the same bytes", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...DISTILLED, gradient_accumulation_steps: 2 });
  const whole = await runTraining({ ...settings, output_dir: place.out("whole") });
  const weights = weightsOf(whole.outcome.folder);
  for (const stopAt of [3, 6, 7]) {
    const again = { ...settings, output_dir: place.out(`stop-${stopAt}`) };
    const stopped = await runTraining(again, { stopAt });
    const resumed = await runTraining({ ...again, resume: "latest" });
    assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
    assert.ok(weightsOf(resumed.outcome.folder).equals(weights), `stopped after step ${stopAt}`);
  }
});

test("a run that begins from no ordinary network has no teacher, and says so", async (t) => {
  const place = makeWorkplace(t);
  const { outcome } = await runTraining(settingsFor(place, { max_steps: 1 }));
  await assert.rejects(
    runTraining(settingsFor(place, { model: outcome.folder, distill_steps: 2, output_dir: place.out("second") })),
    {
      name: "UserError",
      message:
        /^distill_steps: 2 needs an ordinary network to learn from, and .*final was trained as momentum\(-1\/256\)\. Remove distill_steps, or/,
    },
  );
});

test("a GGUF file teaches too", async (t) => {
  const place = makeWorkplace(t);
  const model = join(GOLDEN, "gguf/mixtral-window.gguf");
  const { losses } = await runTraining(
    settingsFor(place, { ...DISTILLED, model, max_steps: 6, distill_learning_rate: 1e-3, warmup_ratio: 0 }),
  );
  assert.ok(losses[5] < 0.8 * losses[0], losses.join());
});
