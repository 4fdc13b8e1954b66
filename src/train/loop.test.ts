// Whole runs in this process on the tiny model: their digits, stopping and going on, learning, and what they report.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { loadModel } from "../checkpoint/load.js";
import { UserError } from "../errors.js";
import { allParameters, freeModel } from "../model/model.js";
import { ledger } from "../torch/memory.js";
import { fill_ } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { toArray } from "../torch/tensor.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { readNetworkFile } from "../network/description.js";
import { prepareRun } from "./prepare.js";
import type { TrainSettings } from "./settings/settings.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf } from "./testing-run.js";

/** Ten losses of the default coupling. Sums are taken in another order by each build of libtorch: later digits differ. */
const LOSSES = [
  5.180401802062988, 4.2942572021484375, 4.056023817795974, 3.5266729990641275, 3.2914692560831704, 2.9069948196411133,
  3.0374221801757812, 2.5563376744588213, 2.5460688273111978, 2.400012969970703,
];
const LOSS_TOLERANCE = 1e-4;

/** Seven micro-batches an epoch, two to a step: the first epoch ends with step 4, which has one. */
const ACCUMULATED = { gradient_accumulation_steps: 2 } as const;

test("ten losses: the same digits each time, and the committed ones", async (t) => {
  const place = makeWorkplace(t);
  const [first, second] = [await runTraining(settingsFor(place)), await runTraining(settingsFor(place))];
  assert.deepEqual(second.losses, first.losses);
  assert.equal(first.losses.length, LOSSES.length);
  for (const [i, loss] of first.losses.entries()) {
    assert.ok(
      Math.abs(loss - LOSSES[i]) < LOSS_TOLERANCE,
      `step ${i + 1}: ${loss} instead of ${LOSSES[i]}; all: ${first.losses.join(", ")}`,
    );
  }
});

test("another seed gives another order of rows", async (t) => {
  const place = makeWorkplace(t);
  const [first, second] = [
    await runTraining(settingsFor(place, { max_steps: 3 })),
    await runTraining(settingsFor(place, { max_steps: 3, seed: 7 })),
  ];
  assert.notDeepEqual(second.losses, first.losses);
});

const RESUMED: [string, Partial<TrainSettings>][] = [
  ["float32 masters", { weights_dtype: "float32" }],
  ["bfloat16 weights, stochastically rounded", { weights_dtype: "bfloat16" }],
  ["additive coupling, no packing", { coupling: "additive", packing: false }],
];
for (const [name, changes] of RESUMED) {
  test(`${name}: stopped after step 5 and resumed, a run ends in the same bytes`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { ...ACCUMULATED, ...changes });
    const whole = await runTraining(
      { ...settings, output_dir: place.out("whole") },
      {
        look: ({ data }) => assert.equal(data.batchesPerEpoch, settings.packing ? 7 : 14),
      },
    );
    const stopped = await runTraining(settings, { stopAt: 5 });
    const checkpoint = join(settings.output_dir, "checkpoint-5");
    assert.deepEqual([stopped.outcome.stopped, stopped.outcome.steps, stopped.outcome.folder], [true, 5, checkpoint]);
    assert.ok(!existsSync(join(settings.output_dir, "final")));
    const resumed = await runTraining(
      { ...settings, resume: checkpoint },
      { look: (run) => assert.equal(run.startStep, 5) },
    );
    assert.deepEqual([...stopped.losses, ...resumed.losses], whole.losses);
    assert.deepEqual(
      resumed.steps.map(({ step, epoch, learningRate }) => [step, epoch, learningRate]),
      whole.steps.slice(5).map(({ step, epoch, learningRate }) => [step, epoch, learningRate]),
    );
    assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
    for (const file of ["config.json", "revmoe.json"]) {
      assert.equal(
        readFileSync(join(resumed.outcome.folder, file), "utf8"),
        readFileSync(join(whole.outcome.folder, file), "utf8"),
      );
    }
  });
}

test('save_steps with save_total_limit 1 leaves the newest; "latest" goes on from it, beside a final/ that is replaced', async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...ACCUMULATED, save_steps: 4, save_total_limit: 1 });
  const whole = await runTraining(settings);
  const folders = (): string[] => readdirSync(settings.output_dir).sort();
  assert.deepEqual(folders(), ["checkpoint-10", "final", "run.json"]);
  assert.deepEqual(
    whole.events.filter((event) => event.kind === "message").map(({ step, message }) => [step, message]),
    [
      [4, `saved ${join(settings.output_dir, "checkpoint-4")}`],
      [8, `saved ${join(settings.output_dir, "checkpoint-8")}`],
      [10, `saved ${join(settings.output_dir, "checkpoint-10")}`],
      [10, `saved ${join(settings.output_dir, "final")}`],
    ],
  );
  const more = { ...settings, lr_scheduler_type: "constant" } as const;
  const weights = weightsOf(
    (await runTraining({ ...more, max_steps: 12, output_dir: place.out("more") })).outcome.folder,
  );
  await runTraining(more);
  const resumed = await runTraining({ ...more, max_steps: 12, resume: "latest" });
  assert.deepEqual(
    resumed.steps.map(({ step }) => step),
    [11, 12],
  );
  assert.deepEqual(weightsOf(resumed.outcome.folder), weights);
  assert.deepEqual(folders(), ["checkpoint-12", "final", "run.json"]);
});

test("a run that goes back to an earlier checkpoint keeps what it saves, though later ones are there", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 5, save_steps: 2 });
  await runTraining(settings);
  await runTraining({
    ...settings,
    resume: join(settings.output_dir, "checkpoint-2"),
    max_steps: 3,
    save_steps: 3,
    save_total_limit: 1,
  });
  assert.ok(existsSync(join(settings.output_dir, "checkpoint-3")), readdirSync(settings.output_dir).join());
});

test('"latest" without a checkpoint is an error that says so', async (t) => {
  const place = makeWorkplace(t);
  await assert.rejects(runTraining(settingsFor(place, { resume: "latest" })), {
    name: "UserError",
    message: /^resume: no complete checkpoint-N folder in .*run\. Leave resume out/,
  });
});

test("a run that is resumed after its last step only evaluates and saves", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 4, save_steps: 2, validation_rows: 2 });
  const stopped = await runTraining(settings, { stopAt: 3 });
  assert.deepEqual(readdirSync(settings.output_dir).sort(), ["checkpoint-2", "checkpoint-3", "run.json"]);
  const { outcome, steps, evals } = await runTraining({ ...settings, max_steps: 3, resume: stopped.outcome.folder });
  assert.deepEqual([outcome.stopped, outcome.memory, steps], [false, null, []]);
  assert.deepEqual(
    evals.map(({ step, network }) => [step, network]),
    [
      [3, "trained"],
      [3, "ordinary"],
    ],
  );
});

/** After 20 steps at most this share of the first loss is left. */
const LEARNT = 0.6;
for (const changes of [
  { gamma: 0.25 },
  { gamma: -1 },
  { coupling: "additive" },
  { coupling: "bdia" },
  { coupling: "revffn", adapter_sharing: "stream" },
  { coupling: "revffn", checkpoint_last_blocks: 1 },
  { blocks_per_step: 2 },
  { gamma: -0.5, checkpoint_first_blocks: 1, checkpoint_last_blocks: 1 },
] as const) {
  test(`${JSON.stringify(changes)} learns, with the same losses from rebuilt, recomputed and stored activations`, async (t) => {
    const place = makeWorkplace(t);
    const losses = async (more: Partial<TrainSettings>): Promise<number[]> =>
      (
        await runTraining(
          settingsFor(place, { ...changes, per_device_train_batch_size: 4, learning_rate: 1e-2, ...more }),
        )
      ).losses;
    const constant = { lr_scheduler_type: "constant", warmup_ratio: 0 } as const;
    const exact =
      "coupling" in changes && changes.coupling === "revffn" ? ({ reconstruction: "stored_hint" } as const) : {};
    const reversible = await losses({ ...constant, ...exact, max_steps: 20 });
    assert.ok(reversible[19] < LEARNT * reversible[0], `${reversible[0]} -> ${reversible[19]}`);
    for (const method of ["checkpoint", "store"] as const) {
      assert.deepEqual(await losses({ ...constant, max_steps: 5, method }), reversible.slice(0, 5));
    }
  });
}

test("two micro-batches of one row are one of two rows, up to the order of sums", async (t) => {
  const place = makeWorkplace(t);
  // Adam divides by the size of a gradient, which makes noise of tiny ones large; this epsilon keeps the update smooth.
  const settings = settingsFor(place, {
    max_steps: 2,
    coupling: "ordinary",
    method: "store",
    adam_epsilon: 1e-3,
    packing: false,
  });
  const one = await runTraining({ ...settings, per_device_train_batch_size: 2, output_dir: place.out("one") });
  const two = await runTraining({ ...settings, gradient_accumulation_steps: 2, output_dir: place.out("two") });
  assert.ok(Math.abs(one.losses[0] - two.losses[0]) < 1e-6, `${one.losses[0]} against ${two.losses[0]}`);
  assert.deepEqual(
    two.steps.map(({ trainedTokens, epoch }) => [trainedTokens, epoch]),
    one.steps.map(({ trainedTokens, epoch }) => [trainedTokens, epoch]),
  );
  const [a, b] = [one, two].map(({ outcome }) => valuesOf(outcome.folder));
  // Weights moved by up to 1e-2: a gradient summed in another order differs near 1e-7 of itself.
  const largest = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
  assert.ok(largest < 1e-6, `weights differ by ${largest}`);
});

test("gamma goes down late in training, also across a resume, and the folder says where it ended", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, {
    max_steps: 8,
    gamma: 0.25,
    gamma_final: 0.0625,
    gamma_final_ratio: 0.5,
    validation_rows: 2,
    save_steps: 7,
  });
  const whole = await runTraining(settings);
  const longest = whole.steps.map(({ bitBytes }, i) => bitBytes / whole.steps[i].streamBytes);
  assert.deepEqual(
    longest.map((share) => Math.round((share / longest[0]) * 2)),
    [2, 2, 2, 2, 4, 4, 4, 4],
  );
  assert.equal(readNetworkFile(whole.outcome.folder).gamma, 0.0625);
  assert.equal(readNetworkFile(join(settings.output_dir, "checkpoint-7")).gamma, 0.0625);
  const rest = await runTraining({
    ...settings,
    resume: join(settings.output_dir, "checkpoint-7"),
    output_dir: place.out("rest"),
  });
  assert.deepEqual(rest.losses, whole.losses.slice(7));
  assert.deepEqual(
    rest.evals.map(({ evalLoss }) => evalLoss),
    whole.evals.slice(2).map(({ evalLoss }) => evalLoss),
  );
});

test("bdia is evaluated as the ordinary network", async (t) => {
  const { evals } = await runTraining(
    settingsFor(makeWorkplace(t), { max_steps: 2, coupling: "bdia", validation_rows: 2 }),
  );
  const last = evals.filter(({ step }) => step === 2);
  assert.deepEqual(
    last.map(({ network }) => network),
    ["trained", "ordinary"],
  );
  assert.equal(last[0].evalLoss, last[1].evalLoss);
});

test("records of steps are complete and sensible", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, {
    ...ACCUMULATED,
    max_steps: 5,
    eval_steps: 2,
    validation_rows: 2,
    save_steps: 3,
  });
  const { steps, evals, events, outcome } = await runTraining(settings);
  assert.deepEqual(
    steps.map(({ step }) => step),
    [1, 2, 3, 4, 5],
  );
  for (const [i, record] of steps.entries()) {
    assert.deepEqual(
      Object.keys(record)
        .filter((key) => key !== "kind")
        .sort(),
      FIELDS,
    );
    for (const [key, value] of Object.entries(record)) {
      if (typeof value === "number") assert.ok(Number.isFinite(value), `${key} is ${value}`);
    }
    const {
      loss,
      gradNorm,
      trainedTokens,
      tokensPerSecond,
      stepMs,
      peakBytes,
      liveBytes,
      rssBytes,
      streamBytes,
      bitBytes,
      epoch,
    } = record;
    // Two of the six micro-batches of an epoch a step (twelve rows are left to train on).
    assert.ok(Math.abs(epoch - (i + 1) / 3) < 1e-12, `${epoch}`);
    assert.ok(loss > 0 && loss < 10 && gradNorm > 0);
    const tokens = (tokensPerSecond * stepMs) / 1000;
    assert.ok(
      Math.abs(tokens - Math.round(tokens)) < 1e-6 && trainedTokens < tokens && tokens <= 2 * settings.max_length,
      `${tokens} tokens, ${trainedTokens} trained`,
    );
    assert.equal(record.reconstructionError, 0);
    assert.deepEqual([record.auxLoss, record.zLoss], [null, null]);
    assert.ok(peakBytes > liveBytes && liveBytes > 0 && rssBytes > peakBytes);
    assert.equal(liveBytes, steps[0].liveBytes);
    // Two streams of 24 int32 per token, their gradients in float32; eight bits per element and block of one stream.
    assert.equal(streamBytes, Math.round(tokens) * 24 * 4 * (2 + 2));
    const terms = [record.weightBytes, record.stateBytes, record.gradientBytes, streamBytes, record.keptBytes];
    assert.ok([...terms, record.workBytes].every((bytes) => bytes > 0));
    assert.equal(
      [...terms, record.workBytes, record.teacherBytes].reduce((sum, bytes) => sum + bytes, 0),
      peakBytes,
    );
    assert.equal(bitBytes, (Math.round(tokens) * 24 * 3 * 8) / 8);
    assert.deepEqual(
      record.expertLoad.map(({ layer }) => layer),
      [0, 2],
    );
    for (const { maxOverMean, entropy, dead } of record.expertLoad) {
      assert.ok(
        maxOverMean >= 1 && maxOverMean <= 6 && entropy > 0 && entropy <= Math.log(6) + 1e-12 && dead >= 0 && dead < 6,
      );
    }
  }
  assert.ok(steps[0].learningRate === settings.learning_rate && steps[4].learningRate < 0.2 * settings.learning_rate);

  assert.deepEqual(
    evals.map(({ step, network }) => [step, network]),
    [
      [0, "ordinary"],
      [0, "trained"],
      [2, "trained"],
      [4, "trained"],
      [5, "trained"],
      [5, "ordinary"],
    ],
  );
  assert.deepEqual(
    evals.map(({ epoch }) => epoch),
    [0, 0, steps[1].epoch, steps[3].epoch, steps[4].epoch, steps[4].epoch],
  );
  for (const { evalLoss, evalPerplexity } of evals) assert.equal(evalPerplexity, Math.exp(evalLoss));
  assert.ok(evals[4].evalLoss < 0.8 * evals[0].evalLoss && evals[5].evalLoss !== evals[4].evalLoss);
  assert.ok(
    Math.abs(evals[1].evalLoss / evals[0].evalLoss - 1) < 0.01,
    "momentum is close to the network it was made from",
  );
  assert.deepEqual(
    events.slice(-4).map(({ kind }) => kind),
    ["eval", "message", "eval", "message"],
  );

  assert.equal(outcome.folder, join(settings.output_dir, "final"));
  assert.deepEqual(readdirSync(outcome.folder).sort(), [
    "config.json",
    "model.safetensors",
    "revmoe-manifest.json",
    "revmoe.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  assert.deepEqual(readNetworkFile(outcome.folder), {
    coupling: "momentum",
    gamma: -1 / 256,
    stream: "int32",
    streamFractionBits: 16,
  });
  const { peakBytes, ...terms } = outcome.memory ?? assert.fail("no memory");
  assert.equal(peakBytes, steps[4].peakBytes);
  assert.equal(
    Object.values(terms).reduce((sum, bytes) => sum + bytes, 0),
    peakBytes,
  );
});

const FIELDS = [
  "auxLoss",
  "bitBytes",
  "epoch",
  "expertLoad",
  "gradNorm",
  "gradientBytes",
  "inverse",
  "keptBytes",
  "learningRate",
  "liveBytes",
  "loss",
  "meanTokenAccuracy",
  "peakBytes",
  "phase",
  "reconstructionError",
  "rssBytes",
  "stateBytes",
  "step",
  "stepMs",
  "streamBytes",
  "teacherBytes",
  "tokensPerSecond",
  "trainedTokens",
  "weightBytes",
  "workBytes",
  "zLoss",
];

test("the ordinary network rebuilds nothing, keeps no bits and is evaluated once at the end", async (t) => {
  const place = makeWorkplace(t);
  const { steps, evals } = await runTraining(
    settingsFor(place, {
      coupling: "ordinary",
      method: "checkpoint",
      max_steps: 4,
      logging_steps: 3,
      validation_rows: 2,
    }),
  );
  assert.deepEqual(
    steps.map(({ step, reconstructionError, bitBytes }) => [step, reconstructionError, bitBytes]),
    [
      [3, null, 0],
      [4, null, 0],
    ],
  );
  assert.deepEqual(
    evals.map(({ step, network }) => [step, network]),
    [
      [0, "trained"],
      [4, "trained"],
    ],
  );
});

async function failureOf(settings: TrainSettings, look?: Parameters<typeof runTraining>[1]): Promise<UserError> {
  const failure: unknown = await runTraining(settings, look).then(
    (ran: Ran) => assert.fail(`no failure; losses ${ran.losses.join()}`),
    (reason: unknown) => reason,
  );
  assert.ok(failure instanceof UserError, String(failure));
  assert.ok(!failure.message.includes("\n"));
  return failure;
}

test("settings that the model refuses leave nothing alive", async (t) => {
  const place = makeWorkplace(t);
  const alive = ledger(TEST_DEVICE);
  for (const changes of [
    { blocks_per_step: 4 },
    { optimizer: "galore_adamw", galore_rank: 512 },
    { checkpoint_first_blocks: 2, checkpoint_last_blocks: 1 },
  ] as const) {
    await assert.rejects(prepareRun(settingsFor(place, changes)), { name: "UserError" });
    assert.deepEqual(
      [ledger(TEST_DEVICE).tensors, ledger(TEST_DEVICE).liveBytes],
      [alive.tensors, alive.liveBytes],
      JSON.stringify(changes),
    );
  }
});

test("max_grad_norm in a run: the norm before clipping is recorded, and who pays for little is told", async (t) => {
  const place = makeWorkplace(t);
  const losses: number[][] = [];
  for (const [max_grad_norm, optimizer] of [
    [0.1, "lomo"],
    [0, "lomo"],
    [0.1, "muon"],
  ] as const) {
    let notes: string[] = [];
    const look = (run: { notes: string[] }): void => void ({ notes } = run);
    const settings = settingsFor(place, {
      max_steps: 3,
      learning_rate: 1e-1,
      max_grad_norm,
      optimizer,
      weights_dtype: "bfloat16",
    });
    const { steps } = await runTraining(settings, { look });
    assert.ok(steps.every(({ gradNorm }) => gradNorm > 1));
    losses.push(steps.map(({ loss }) => loss));
    assert.equal(
      notes.filter((note) => note.startsWith("max_grad_norm 0.1 does little with optimizer muon")).length,
      optimizer === "muon" ? 1 : 0,
    );
  }
  assert.equal(losses[0][0], losses[1][0]);
  assert.notEqual(losses[0][1], losses[1][1]);
});

for (const changes of [
  {},
  { coupling: "additive" },
  { stream: "float32" },
  { coupling: "ordinary", method: "store" },
] as const) {
  test(`${JSON.stringify(changes)}: a learning rate that blows up ends in one sentence, and checkpoints remain`, async (t) => {
    const place = makeWorkplace(t);
    const settings = settingsFor(place, { ...changes, learning_rate: 1e30, save_steps: 1 });
    const { message } = await failureOf(settings);
    assert.match(message, /not a finite number.*learning.rate|stream value of \S+ leaves the grid.*learning rate/);
    assert.deepEqual(readdirSync(settings.output_dir).sort(), ["checkpoint-1", "nonfinite-step-2.json", "run.json"]);
    freeModel(loadModel(join(settings.output_dir, "checkpoint-1"), { weightsDtype: "auto", device: "cpu" }));
  });
}

test("weights that are not a number are found in the first step, and nothing is saved", async (t) => {
  const place = makeWorkplace(t);
  for (const changes of [{}, { coupling: "ordinary", method: "store" }] as const) {
    const settings = settingsFor(place, { ...changes, save_steps: 1 });
    const { message } = await failureOf(settings, {
      look: ({ state: { network } }) => scope(() => void fill_(Object.values(network.model.blocks[1])[0], Number.NaN)),
    });
    assert.match(message, /not a finite number/);
    assert.match(
      message,
      /The weight model\.\S+ was not finite before the first step: \S+model is damaged\. Its batch.* There is no checkpoint: nothing was saved\.$/,
    );
    assert.deepEqual(readdirSync(settings.output_dir).sort(), ["nonfinite-step-1.json", "run.json"]);
  }
});

/** All weights of a folder in the order of the forward pass. */
function valuesOf(folder: string): number[] {
  const model = loadModel(folder, { weightsDtype: "float32", device: "cpu" });
  const values = allParameters(model).flatMap(toArray);
  freeModel(model);
  return values;
}

test("a resumed run keeps its network and its data's order; a new one from its weights says what changes", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 4 });
  const stopped = await runTraining(settings, { stopAt: 2 });
  const folder = stopped.outcome.folder;
  for (const [name, value] of [
    ["coupling", "additive"],
    ["gamma", -0.5],
    ["seed", 9],
    ["packing", false],
  ] as const) {
    const message = new RegExp(
      `^${name}: ${value} here, but .*checkpoint-2 was trained with .*start a new run with model: `,
    );
    await assert.rejects(runTraining({ ...settings, [name]: value, resume: folder }), { name: "UserError", message });
  }
  let notes: string[] = [];
  const look = (run: { notes: string[] }): void => void ({ notes } = run);
  await runTraining(settingsFor(place, { model: folder, gamma: -1, max_steps: 1, output_dir: place.out("second") }), {
    look,
  });
  assert.match(notes[0], /checkpoint-2 was trained as momentum\(-1\/256\); this run trains it as momentum\(-1\)$/);
});

test("a conversion that loses what was learnt is warned of, with both losses", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { coupling: "ordinary", method: "checkpoint" }));
  const model = join(place.out(), "final");
  const convert = async (changes: Partial<TrainSettings>): Promise<{ warnings: string[]; losses: string[] }> => {
    const output_dir = place.out(`as-${Object.values(changes).join("-")}`);
    const { events, evals } = await runTraining(
      settingsFor(place, { model, output_dir, max_steps: 1, validation_rows: 2, ...changes }),
    );
    const warnings = events.flatMap((event) =>
      event.kind === "message" && event.level === "warning" ? [event.message] : [],
    );
    return { warnings, losses: evals.filter(({ step }) => step === 0).map(({ evalLoss }) => evalLoss.toFixed(4)) };
  };
  for (const changes of [
    { coupling: "additive" },
    { coupling: "momentum", gamma: -1 },
    { coupling: "momentum", stream: "float32" },
  ] as const) {
    const { warnings, losses } = await convert(changes);
    assert.equal(losses.length, 2);
    assert.ok(warnings[0].includes(`${losses[1]}, the pretrained network at ${losses[0]}`), warnings[0]);
    assert.ok(
      warnings[0].includes("Use coupling momentum with gamma -1/256 and integer streams, or coupling ordinary"),
    );
  }
  for (const changes of [{ coupling: "momentum" }, { coupling: "bdia" }] as const)
    assert.deepEqual((await convert(changes)).warnings, []);
});
