// Stopping a run as the world does it, in processes of their own: by Ctrl-C, by SIGTERM, and by closing the terminal.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { listCheckpoints } from "../../checkpoint/run/checkpoints.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));

interface Living {
  child: ChildProcess;
  /** What was said so far, on both. */
  said(): string;
  ended: Promise<{ code: number | null; signal: string | null }>;
}

function start(
  { model, rows, out }: Workplace,
  changes: Record<string, string> = {},
  stdout: "pipe" | number = "pipe",
): Living {
  const flags = {
    ...{ model, "train-file": rows, "output-dir": out(), "max-steps": "100000", threads: "1", "learning-rate": "5e-3" },
    ...{ "compute-dtype": "float32", "max-length": "64", "per-device-train-batch-size": "1", ...changes },
  };
  const all = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(process.execPath, [CLI, "train", ...all], { stdio: ["ignore", stdout, "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => (said += text));
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal })),
  );
  return { child, said: () => said, ended };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 3000, `never: ${what}`);
    await sleep(20);
  }
}

/** With so many rows a step of many seconds: whatever is said in it is said while the main thread computes. */
const LONG_STEP = { "gradient-accumulation-steps": "20000" };
const MANY_ROWS = Array.from(
  { length: 12_000 },
  (_, i) => `${JSON.stringify({ text: `The sum of ${i % 9} and 1.` })}\n`,
).join("");
const ACKNOWLEDGED =
  /^stopping: a checkpoint is saved when this step ends; once more to leave at once, without this step$/m;

test("the first signal is acknowledged inside a step, the second leaves at once with what there is to go on from", async (t) => {
  for (const [name, code, resumes] of [
    ["SIGINT", 130, false],
    ["SIGTERM", 143, true],
  ] as const) {
    const place = makeWorkplace(t);
    writeFileSync(place.rows, MANY_ROWS);
    const changes: Record<string, string> = { ...LONG_STEP };
    if (resumes) {
      const { outcome } = await runTraining(
        settingsFor(place, { max_steps: 2, save_steps: 1, output_dir: place.out() }),
      );
      assert.equal(outcome.steps, 2);
      changes.resume = join(place.out(), "checkpoint-1");
    }
    const { child, said, ended } = start(place, changes);
    await until(() => /^steps: /m.test(said()), "the run begins");
    await sleep(1000);
    child.kill(name);
    await until(() => ACKNOWLEDGED.test(said()), "the first is acknowledged");
    assert.equal(child.exitCode, null);
    await sleep(400);
    child.kill(name);
    assert.deepEqual(await ended, { code, signal: null });
    assert.match(said(), /^left at once: nothing of this step is saved; /m);
    assert.match(
      said(),
      resumes ? /go on with: revmoe train \.\.\. --resume \S+checkpoint-1$/m : /there is no checkpoint to go on from$/m,
    );
    assert.doesNotMatch(said(), /^step /m);
    assert.deepEqual(listCheckpoints(place.out()), resumes ? [1, 2] : []);
  }
});

test("one press that comes twice at once, as through npm, is one press; a terminal that closes is none", async (t) => {
  for (const second of ["SIGINT", "SIGHUP"] as const) {
    const place = makeWorkplace(t);
    const { child, said, ended } = start(place);
    await until(() => /^step 2\//m.test(said()), "two steps");
    child.kill("SIGINT");
    if (second === "SIGHUP") await until(() => ACKNOWLEDGED.test(said()), "the first is acknowledged");
    child.kill(second);
    assert.deepEqual(await ended, { code: 130, signal: null });
    assert.equal(listCheckpoints(place.out()).length, 1);
    assert.doesNotMatch(said(), /left at once/);
  }
});

test("a terminal that is gone: the checkpoint is saved, and goes on in the same bits", async (t) => {
  const place = makeWorkplace(t);
  const { child, said, ended } = start(place, { "lr-scheduler-type": "constant", "warmup-steps": "1" });
  await until(() => /^step 3\//m.test(said()), "three steps");
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.kill("SIGHUP");
  assert.deepEqual(await ended, { code: 129, signal: null });
  const [step] = listCheckpoints(place.out());
  assert.ok(step >= 3 && existsSync(join(place.out(), "metrics.jsonl")));
  const changes = { max_steps: step + 2, lr_scheduler_type: "constant", warmup_steps: 1, device: "cpu" } as const;
  const resumed = await runTraining(settingsFor(place, { ...changes, resume: "latest" }));
  const whole = await runTraining(settingsFor(place, { ...changes, output_dir: place.out("whole") }));
  assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
});

test("SIGSTOP and SIGCONT, as Ctrl-Z and fg: the run goes on to the same weights", async (t) => {
  const place = makeWorkplace(t);
  // Steps long enough that the run is not over when it is stopped.
  const changes = { "max-steps": "10", "gradient-accumulation-steps": "20", "lr-scheduler-type": "constant" };
  const { child, said, ended } = start(place, changes);
  await until(() => /^step 1\//m.test(said()), "a step");
  child.kill("SIGTSTP");
  await sleep(300);
  assert.doesNotMatch(said(), /^step 10\//m);
  child.kill("SIGCONT");
  assert.deepEqual(await ended, { code: 0, signal: null });
  const whole = await runTraining(
    settingsFor(place, {
      ...{ max_steps: 10, gradient_accumulation_steps: 20, lr_scheduler_type: "constant" },
      ...{ device: "cpu", output_dir: place.out("whole") },
    }),
  );
  assert.deepEqual(weightsOf(join(place.out(), "final")), weightsOf(whole.outcome.folder));
});

test("a full stdout drops lines and ends no run", { skip: !existsSync("/dev/full") }, async (t: TestContext) => {
  const place = makeWorkplace(t);
  const full = openSync("/dev/full", "w");
  const { said, ended } = start(place, { "max-steps": "3" }, full);
  assert.deepEqual(await ended, { code: 0, signal: null });
  closeSync(full);
  assert.match(said(), /^revmoe: stdout could not be written \(ENOSPC\): what was printed there is not complete\.$/m);
  assert.ok(existsSync(join(place.out(), "final", "model.safetensors")));
});
