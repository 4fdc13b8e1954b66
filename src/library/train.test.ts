// A run as programs have it: watched, stopped and awaited; with rows of their own; without a trace in the process.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { ledger } from "../torch/memory.js";
import { TEST_DEVICE } from "../torch/testing-device.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf, type Workplace } from "../train/testing-run.js";
import { type Settings, type StepRecord, train, UserError } from "../index.js";

const asked = ({ model, rows, out }: Workplace, changes: Partial<Settings> = {}): Settings => ({
  ...{ model, train_file: rows, output_dir: out("library"), threads: 1, compute_dtype: "float32", device: TEST_DEVICE },
  ...{ max_length: 64, max_steps: 4, per_device_train_batch_size: 1, learning_rate: 5e-3 },
  ...changes,
});

const without = (settings: Settings, name: keyof Settings): Settings => {
  const { [name]: _, ...rest } = settings;
  return rest as Settings;
};

const rowsOf = ({ rows }: Workplace): object[] =>
  readFileSync(rows, "utf8")
    .trim()
    .split("\n")
    .map((line) => Object.freeze(JSON.parse(line) as object));

async function stepsOf(run: AsyncIterable<StepRecord>): Promise<StepRecord[]> {
  const steps: StepRecord[] = [];
  for await (const step of run) steps.push(step);
  return steps;
}

test("its steps, its result and its folder are those of the same run by the command", async (t) => {
  const place = makeWorkplace(t);
  const run = train(asked(place));
  const steps = await stepsOf(run);
  const { folder, stopped, steps: done, record, memory } = await run.result;
  const { losses, outcome } = await runTraining(settingsFor(place, { max_steps: 4 }));
  assert.deepEqual(
    steps.map(({ loss }) => loss),
    losses,
  );
  assert.deepEqual([stopped, done, record], [false, 4, steps[3]]);
  assert.ok(memory && memory.peakBytes > 0);
  assert.equal(folder, join(place.out("library"), "final"));
  assert.deepEqual(weightsOf(folder), weightsOf(outcome.folder));
  assert.equal(readFileSync(join(place.out("library"), "metrics.jsonl"), "utf8").match(/"loss"/g)?.length, 4);
});

test("a signal, or leaving the loop, stops at the step's end and saves; going on gives the same bits", async (t) => {
  const place = makeWorkplace(t);
  const constant = { lr_scheduler_type: "constant", max_steps: 5 } as const;
  const whole = await train(asked(place, constant)).result;
  for (const way of ["signal", "leave", "at once"]) {
    const settings = asked(place, { ...constant, output_dir: place.out(way) });
    const controller = new AbortController();
    if (way === "at once") controller.abort();
    const run = train(settings, { signal: controller.signal });
    for await (const { step } of run) {
      if (step < 2) continue;
      if (way === "leave") break;
      controller.abort();
    }
    const { stopped, steps, folder } = await run.result;
    assert.deepEqual([stopped, steps], [true, way === "at once" ? 0 : 2]);
    assert.equal(folder, way === "at once" ? null : join(place.out(way), "checkpoint-2"));
    const resume = way === "at once" ? "" : "latest";
    const rest = await train({ ...settings, resume }).result;
    assert.deepEqual(weightsOf(String(rest.folder)), weightsOf(String(whole.folder)), way);
  }
});

test("rows of a program train as those of a file, in any iterable, and are left as they are", async (t) => {
  const place = makeWorkplace(t);
  const rows = rowsOf(place);
  const fromFile = await train(asked(place)).result;
  const streamed = async function* (): AsyncGenerator<object> {
    yield* rows;
  };
  for (const [name, given] of Object.entries({ list: rows, set: new Set(rows), stream: streamed() })) {
    const settings = without(asked(place, { output_dir: place.out(name) }), "train_file");
    const { folder } = await train(settings, { rows: given }).result;
    assert.deepEqual(weightsOf(String(folder)), weightsOf(String(fromFile.folder)), name);
  }
});

test("rows that are evaluated on are given, too, and a run of given rows goes on with the same ones alone", async (t) => {
  const place = makeWorkplace(t);
  const rows = rowsOf(place);
  const settings = without(asked(place, { save_steps: 2, max_steps: 2 }), "train_file");
  const losses: number[] = [];
  const onEvent = (event: { kind: string; evalLoss?: number }): void => {
    if (event.kind === "eval") losses.push(Number(event.evalLoss));
  };
  await train(settings, { rows, validationRows: rows.slice(0, 3), onEvent }).result;
  assert.ok(losses.length >= 2 && losses.every(Number.isFinite), String(losses));
  const further = { ...settings, max_steps: 3, resume: "latest" };
  const other = train(further, { rows: rows.slice(1), validationRows: rows.slice(0, 3) }).result;
  await assert.rejects(
    other,
    (failure) => failure instanceof UserError && /^resume: the data is not what /.test(failure.message),
  );
  const { steps } = await train(further, { rows, validationRows: rows.slice(0, 3) }).result;
  assert.equal(steps, 3);
});

test("a failure waits for whoever looks later, several may wait for a step, and a limit ends with its run", async (t) => {
  const place = makeWorkplace(t);
  const failed = train(asked(place, { model: join(place.folder, "none") }));
  await setTimeout(50);
  await assert.rejects(stepsOf(failed), { name: "UserError" });
  await assert.rejects(train(5 as never).result, /^UserError: settings: 5 is no object/);

  const iterator = train(asked(place, { max_steps: 2 }))[Symbol.asyncIterator]();
  const steps = await Promise.all(Array.from({ length: 4 }, () => iterator.next()));
  assert.deepEqual(
    steps.map(({ value }) => value?.step),
    [1, 2, undefined, undefined],
  );

  // Refused behind the limit, which is smaller than what the next run needs.
  const limited = asked(place, { memory_limit: "1MiB", sample_prompts: [""], output_dir: place.out("limited") });
  await assert.rejects(train(limited).result, { name: "UserError" });
  await train(asked(place, { output_dir: place.out("after") })).result;
});

test("what is wrong is a sentence of the command line, wherever it is awaited", async (t) => {
  const place = makeWorkplace(t);
  const bare = without(asked(place), "train_file");
  const cycle: Record<string, unknown> = {};
  cycle.text = cycle;
  const cases: [Settings, Parameters<typeof train>[1], RegExp][] = [
    [{ ...asked(place), learnin_rate: 1 } as Settings, {}, /^learnin_rate is unknown\. Did you mean learning_rate\?$/],
    [asked(place, { learning_rate: -1 }), {}, /^learning_rate -1 is not possible \(expected/],
    [asked(place, { coupling: "additive", gamma: 0.5 }), {}, /^gamma 0\.5 has no effect: only couplings/],
    [bare, {}, /^train_file is missing/],
    [asked(place), { rows: [] }, /^train_file: rows are given in its place\. Give one of the two\.$/],
    [bare, { rows: [] }, /^train_file \(rows given\): there is no row \(expected at least one\)\.$/],
    [bare, { rows: [{ text: "a" }, 5] as object[] }, /^train_file \(rows given\):2: the row is the number 5/],
    [bare, { rows: [{ text: "a" }, undefined] as object[] }, /^train_file \(rows given\):2: the row is missing/],
    [bare, { rows: [cycle] }, /^train_file \(rows given\):1: the row cannot be written as JSON: /],
    [bare, { rows: 7 as unknown as object[] }, /^rows: no list of rows is given/],
    [asked(place, { model: join(place.folder, "none") }), {}, /none/],
  ];
  for (const [settings, options, message] of cases) {
    const isIt = (failure: unknown): boolean => {
      assert.ok(failure instanceof UserError, String((failure as Error).stack));
      assert.match(failure.message, message);
      return true;
    };
    const run = train(settings, options);
    await assert.rejects(run.result, isIt);
    await assert.rejects(stepsOf(train(settings, options)), isIt);
    assert.equal(existsSync(place.out("library")), false, "nothing is left");
  }
});

test("one run at a time: another is refused, and is possible after it", async (t) => {
  const place = makeWorkplace(t);
  const first = train(asked(place, { output_dir: place.out("first") }));
  await assert.rejects(
    train(asked(place)).result,
    /^UserError: output_dir: \S+ cannot be trained while the run in \S+first is under way/,
  );
  await first.result;
  assert.equal((await train(asked(place)).result).stopped, false);
});

test("the process is as it was: listeners, environment, folder, tensors; after failures, too", async (t) => {
  const place = makeWorkplace(t);
  await train(asked(place)).result; // the engine, at its first use, sets what its libraries read
  const look = () => ({
    listeners: Object.fromEntries(
      process.eventNames().map((name) => [String(name), process.listenerCount(String(name))]),
    ),
    environment: { ...process.env },
    cwd: process.cwd(),
    tensors: ledger(TEST_DEVICE).tensors,
    exitCode: process.exitCode,
  });
  const before = look();
  const run = train(asked(place, { output_dir: place.out("second"), memory_limit: "8GiB" }));
  let during = 0;
  for await (const _ of run) during += process.listenerCount("SIGINT") + process.listenerCount("SIGTERM");
  await run.result;
  assert.equal(during, 0);
  assert.deepEqual(look(), before);
  const failing = train(asked(place, { output_dir: place.out("third") }), {
    onEvent: ({ kind }) => {
      if (kind === "step") throw new Error("of the program");
    },
  });
  await assert.rejects(failing.result, /^Error: of the program$/);
  assert.deepEqual(look(), before);
});

test("runs one after the other give the bits of processes of their own, which print nothing", (t) => {
  const place = makeWorkplace(t);
  const index = fileURLToPath(new URL("../index.js", import.meta.url));
  // Draws of every kind: signs of a coupling, orders of rows, roundings.
  const draws = { weights_dtype: "bfloat16", coupling: "bdia", router_jitter_noise: 0.1, output_dir: "" } as const;
  const each = ["adamw", "adafactor", "adamw"].map((optimizer, i) => ({
    ...asked(place, draws),
    optimizer,
    seed: 3 + (i % 2),
  }));
  const inProcess = (name: string, indices: number[]): Buffer[] => {
    const runs = indices.map((i) => ({ ...each[i], output_dir: place.out(`${name}-${i}`) }));
    const script = `import { train } from ${JSON.stringify(index)};
      for (const settings of ${JSON.stringify(runs)}) await train(settings).result;`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
    });
    assert.deepEqual([status, stdout, stderr], [0, "", ""]);
    return runs.map(({ output_dir }) => weightsOf(join(output_dir, "final")));
  };
  const together = inProcess("together", [0, 1, 2]);
  const alone = [0, 1].map((i) => inProcess("alone", [i])[0]);
  assert.deepEqual(together, [alone[0], alone[1], alone[0]]);
  assert.notDeepEqual(alone[0], alone[1]);
});
