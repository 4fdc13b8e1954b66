// Steps that meet values that are not finite: whatever the kind and the policy, no run goes on from half an update, and one that leaves a
// batch out ends in the same bits as one that never had it.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test, type TestContext } from "node:test";

import type { Batch, BatchState } from "../../data/batches.js";
import { fill_, mulScalar } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { readLeftOut } from "./left-out.js";
import type { Run } from "../prepare.js";
import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, type Ran, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";

/** The row that spoils every batch it is in. */
const BAD_ROW = /:9$/;
const isBad = ({ places = [] }: Batch): boolean => places.some((place) => BAD_ROW.test(place));
/** Whether the step whose batches were asked for last holds it. */
const spoilt = ({ data }: Run): (() => boolean) => {
  let last = false;
  const next = data.nextStep.bind(data);
  data.nextStep = (most) => {
    const placed = next(most);
    last = placed.some(({ batch }) => isBad(batch));
    return placed;
  };
  return () => last;
};

/** Ways in which the bad row spoils its step, each set up in a run before its first step. */
const KINDS = {
  /** Known before anything is changed. */
  loss: (run: Run) => {
    const bad = spoilt(run);
    const { model } = run.state.network;
    const { finalNorm } = model.architecture;
    model.architecture = {
      ...model.architecture,
      finalNorm: (...of) => (bad() ? mulScalar(finalNorm(...of), Number.NaN) : finalNorm(...of)),
    };
  },
  /** Known when all blocks have been updated. */
  gradient: (run: Run) => {
    const bad = spoilt(run);
    const { coupling } = run.state.network;
    const beginGradient: typeof coupling.beginGradient = (streams) =>
      bad() ? mulScalar(coupling.beginGradient(streams), Number.POSITIVE_INFINITY) : coupling.beginGradient(streams);
    Object.assign(run.state.network, { coupling: { ...coupling, beginGradient } });
  },
  /** Known in the step after, or when it is looked for. */
  update: (run: Run) => {
    const bad = spoilt(run);
    const update = run.states.update.bind(run.states);
    run.states.update = (layer, name, whole, gradient, options) => {
      update(layer, name, whole, gradient, options);
      if (bad() && layer === 1) scope(() => void fill_(whole, Number.NaN));
    };
  },
};
type Kind = keyof typeof KINDS;

const CHANGES = { max_steps: 9, save_steps: 2, gradient_accumulation_steps: 2, lr_scheduler_type: "constant" } as const;

/** The weights that come out where these batches were left out from the beginning. */
async function without(place: Workplace, leftOut: BatchState[], changes: Partial<TrainSettings>): Promise<Buffer> {
  const { durability: _durability, ...rest } = changes;
  const settings = settingsFor(place, { ...CHANGES, ...rest, output_dir: place.out("without"), parameters: "device" });
  const look = ({ data }: Run): void => leftOut.forEach((at) => void data.leaveOut(at));
  return weightsOf((await runTraining(settings, { look })).outcome.folder);
}

const warningsOf = ({ events }: Ran): string[] =>
  events.flatMap((event) => (event.kind === "message" && event.level === "warning" ? [event.message] : []));

const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    (ran) => assert.fail(`no failure: ${JSON.stringify((ran as Ran).events.slice(-3))}`),
    (reason: unknown) => reason as Error,
  );

const HEALED: [Kind, Partial<TrainSettings>][] = [
  ["loss", { on_nonfinite: "skip" }],
  ["loss", { on_nonfinite: "rollback", router_aux_loss_coef: 0.01, optimizer: "adamw8bit", weights_dtype: "bfloat16" }],
  ["loss", { on_nonfinite: "skip", parameters: "disk", durability: "snapshot" }],
  ["gradient", { on_nonfinite: "skip", max_grad_norm: 1 }],
  ["gradient", { on_nonfinite: "rollback" }],
  ["gradient", { on_nonfinite: "rollback", save_steps: 0 }],
  ["gradient", { on_nonfinite: "skip", parameters: "disk", durability: "step" }],
  ["gradient", { on_nonfinite: "rollback", parameters: "disk", durability: "snapshot", weights_dtype: "bfloat16" }],
  ["update", { on_nonfinite: "rollback", weights_dtype: "bfloat16", weights_correction: "8bit" }],
  ["loss", { on_nonfinite: "skip", parameters: "host" }],
  ["gradient", { on_nonfinite: "rollback", parameters: "host" }],
  ["update", { on_nonfinite: "rollback", parameters: "host", optimizer: "muon" }],
  ["update", { on_nonfinite: "rollback", optimizer: "adafactor", save_total_limit: 1 }],
  ["update", { on_nonfinite: "rollback", coupling: "ordinary", method: "store", save_steps: 1 }],
];
for (const [kind, changes] of HEALED) {
  test(`${kind}, ${JSON.stringify(changes)}: ends as a run that never had the batch`, async (t) => {
    const place = makeWorkplace(t);
    // Main memory as a place of its own is refused where there is no GPU; the copies are the same.
    const { parameters = "device", ...rest } = changes;
    const given = parameters === "host" ? rest : changes;
    const settings = { ...settingsFor(place, { ...CHANGES, ...given, nonfinite_limit: 20 }), parameters };
    const ran = await runTraining(settings, { look: KINDS[kind] });
    const leftOut = readLeftOut(settings.output_dir);
    // All micro-batches of a step go, which may end its epoch alone, and the bad one is in each epoch.
    const epochs = new Set(leftOut.map(({ epoch }) => epoch));
    assert.ok(epochs.size >= 2 && leftOut.length > epochs.size, `${leftOut.length} batches`);
    assert.deepEqual(weightsOf(ran.outcome.folder), await without(place, leftOut, changes));
    checkRecords(settings.output_dir, warningsOf(ran));
  });
}

/** Every record that was spoken of is there, and the bad row is in its batches; or damage was found, whose batch is not to blame. */
function checkRecords(folder: string, warnings: string[]): void {
  const records = readdirSync(folder).filter((name) => name.startsWith("nonfinite-step-"));
  assert.deepEqual(
    records.sort(),
    warnings.map((each) => basename(/Its batch: (\S+\.json)\./.exec(each)?.[1] ?? "")).sort(),
  );
  let blamed = 0;
  for (const name of records) {
    const record = JSON.parse(readFileSync(join(folder, name), "utf8")) as {
      batches: { documents: { place: string; tokens: number[]; trained: number[]; text: string }[] }[];
    };
    const documents = record.batches.flatMap((each) => each.documents);
    blamed += documents.some(({ place, text }) => BAD_ROW.test(place) && text.startsWith("The sum of 8 and")) ? 1 : 0;
    assert.ok(
      documents.every(
        ({ tokens, trained }) => tokens.length === trained.length && trained[0] === 0 && trained.includes(1),
      ),
    );
  }
  assert.ok(blamed >= 2);
}

test("stop keeps what is good: the end of the step before where nothing was changed, else the last checkpoint", async (t) => {
  const place = makeWorkplace(t);
  for (const [kind, changes, kept, says] of [
    [
      "loss",
      { on_nonfinite: "stop" },
      "before",
      /Weights and optimizer state are finite: .* The end of step (\d+) is saved: go on with resume:/,
    ],
    [
      "gradient",
      { on_nonfinite: "skip" },
      "checkpoint",
      /Other parameters were updated before .* The last checkpoint is \S+checkpoint-\d\./,
    ],
    ["gradient", { on_nonfinite: "stop", max_grad_norm: 1 }, "before", /The end of step \d+ is saved/],
    ["update", { on_nonfinite: "stop" }, "checkpoint", /weight model\.layers\.1\.\S+/],
  ] as const) {
    const output_dir = place.out(`${kind}-${Object.values(changes).join("-")}`);
    // Late enough for a checkpoint before it, where one is looked for.
    const settings = settingsFor(place, {
      ...CHANGES,
      ...changes,
      output_dir,
      save_steps: kept === "before" ? 0 : 1,
      seed: 2,
    });
    const { message, name } = await failure(runTraining(settings, { look: KINDS[kind] }));
    assert.equal(name, "UserError");
    assert.match(message, says);
    const checkpoints = readdirSync(output_dir).filter((each) => each.startsWith("checkpoint-"));
    assert.ok(!existsSync(join(output_dir, "final")) && checkpoints.length > 0, `${kind}: ${checkpoints.join()}`);
    if (kept === "checkpoint") continue;
    assert.equal(checkpoints.length, 1);
    // Going on with another policy is as having had it from the beginning.
    const resumed = { ...settings, on_nonfinite: "skip" as const, resume: join(output_dir, checkpoints[0]) };
    const ran = await runTraining(resumed, { look: KINDS[kind] });
    assert.deepEqual(
      weightsOf(ran.outcome.folder),
      await without(place, readLeftOut(output_dir), { ...changes, seed: 2 }),
    );
  }
});

test("a run that is resumed before a batch that was left out leaves it out, too", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...CHANGES, on_nonfinite: "rollback", save_steps: 1 });
  const whole = await runTraining(settings, { look: KINDS.gradient });
  const weights = weightsOf(whole.outcome.folder);
  // Nothing is spoilt this time: it is the file that tells.
  const resumed = await runTraining({ ...settings, resume: join(settings.output_dir, "checkpoint-1") });
  assert.deepEqual(weightsOf(resumed.outcome.folder), weights);
  // A run that begins anew has nothing to do with it.
  await runTraining({ ...settings, max_steps: 1 });
  assert.deepEqual(readLeftOut(settings.output_dir), []);
});

test("weights and states that are damaged between steps: gone back from, and no batch is left out", async (t) => {
  const place = makeWorkplace(t);
  const plain = weightsOf(
    (await runTraining(settingsFor(place, { ...CHANGES, output_dir: place.out("plain") }))).outcome.folder,
  );
  const DAMAGES: [string, Partial<TrainSettings>, (run: Run) => void][] = [
    ["weight", {}, ({ state: { network } }) => void fill_(Object.values(network.model.blocks[0])[0], Number.NaN)],
    [
      "infinite",
      { parameters: "disk", durability: "step" },
      ({ state: { network } }) => void fill_(Object.values(network.model.outer)[0], Infinity),
    ],
    ["state", {}, ({ states }) => void fill_(states.tensors()[0].tensor, Number.NaN)],
  ];
  for (const [name, changes, damage] of DAMAGES) {
    const settings = settingsFor(place, {
      ...CHANGES,
      ...changes,
      on_nonfinite: "rollback",
      output_dir: place.out(name),
    });
    const ran = await runTraining(settings, { look: (run) => onceBefore(run, 6, () => scope(() => damage(run))) });
    assert.match(
      warningsOf(ran)[0],
      /: damaged, or spoilt by an earlier update\..* Back to \S+checkpoint-4|optimizer state was damaged\..* Back to \S+checkpoint-4/,
    );
    assert.deepEqual(readLeftOut(settings.output_dir), []);
    assert.deepEqual(weightsOf(ran.outcome.folder), plain);
  }
});

/** Calls `fn` before `step`, the first time that its batches are asked for. */
function onceBefore({ data, settings }: Run, step: number, fn: () => void): void {
  const next = data.nextPlaced.bind(data);
  let calls = 0;
  data.nextPlaced = () => {
    if (calls++ === (step - 1) * settings.gradient_accumulation_steps) fn();
    return next();
  };
}

test("a limit ends a run that is spoilt again and again; a checkpoint that is damaged itself is said at once", async (t) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { ...CHANGES, on_nonfinite: "skip", nonfinite_limit: 2 });
  const always = (run: Run): void => {
    const { model } = run.state.network;
    const { finalNorm } = model.architecture;
    model.architecture = { ...model.architecture, finalNorm: (...of) => mulScalar(finalNorm(...of), Number.NaN) };
  };
  const { message } = await failure(runTraining(settings, { look: always }));
  assert.match(message, /That happened 3 times \(nonfinite_limit\)\. There is no checkpoint/);

  await runTraining({ ...settings, max_steps: 3 });
  const resume = join(settings.output_dir, "checkpoint-2");
  for (const [damage, says] of [
    [
      ({ states }: Run) => states.tensors()[0].tensor,
      /the optimizer state \S+ holds values that are not finite .*: it is damaged\. Resume from an older/,
    ],
    [({ state }: Run) => state.network.model.blocks[2]["input_layernorm.weight"], /the weight \S+ holds values/],
  ] as const) {
    const look = (run: Run): void => scope(() => void fill_(damage(run), Number.NaN));
    assert.match((await failure(runTraining({ ...settings, resume }, { look }))).message, says);
  }
});

test("a loss far above its course is said, with its batch", async (t: TestContext) => {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { max_steps: 16, learning_rate: 1e-5 });
  const look = (run: Run): void => {
    const { model } = run.state.network;
    const { finalNorm } = model.architecture;
    let steps = 0;
    const next = run.data.nextPlaced.bind(run.data);
    run.data.nextPlaced = () => {
      steps++;
      return next();
    };
    model.architecture = {
      ...model.architecture,
      finalNorm: (...of) => mulScalar(finalNorm(...of), steps === 14 ? 40 : 1),
    };
  };
  const ran = await runTraining(settings, { look });
  const warnings = warningsOf(ran);
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0],
    /^step 14: the loss \d+\.\d+ is far above its course \(median \d\.\d+, spread \d\.\d+ .*Its batch: \S+spike-step-14\.json$/,
  );
  assert.ok(existsSync(join(settings.output_dir, "spike-step-14.json")));
});
