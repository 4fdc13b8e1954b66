import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";

import { UserError } from "../../errors.js";
import { jsonlSink } from "./jsonl.js";
import type { RunEvent } from "../record.js";

let folder = "";
let path = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "revmoe-jsonl-"));
  path = join(folder, "metrics.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

const stepEvent = (step: number, loss = 2.5): RunEvent => ({
  kind: "step",
  step,
  phase: "full",
  epoch: step / 10,
  loss,
  meanTokenAccuracy: 0.25,
  learningRate: 1e-5,
  gradNorm: 0.5,
  trainedTokens: 100,
  tokensPerSecond: 50,
  stepMs: 2000,
  peakBytes: 4096,
  liveBytes: 1024,
  rssBytes: 8192,
  streamBytes: 256,
  ...{ weightBytes: 512, stateBytes: 256, gradientBytes: 128, keptBytes: 64, teacherBytes: 0, workBytes: 32 },
  bitBytes: 16,
  reconstructionError: 0,
  inverse: null,
  expertLoad: [{ layer: 0, maxOverMean: 1.5, entropy: 2.01, dead: 0 }],
  auxLoss: null,
  zLoss: null,
});
const evalEvent = (step: number): RunEvent => ({
  kind: "eval",
  step,
  epoch: step / 10,
  evalLoss: 2,
  evalPerplexity: 7.389,
  evalMeanTokenAccuracy: 0.5,
  network: "trained",
});
const lines = (): Record<string, unknown>[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("an event is a line that holds all its fields, there before write returns", () => {
  const sink = jsonlSink(path);
  sink.write(stepEvent(1));
  assert.deepEqual(lines(), [stepEvent(1)]);
  sink.write(evalEvent(1));
  sink.write({ kind: "message", step: 1, message: "saved\ncheckpoint-1", level: "info" });
  sink.close();
  assert.deepEqual(lines(), [
    stepEvent(1),
    evalEvent(1),
    { kind: "message", step: 1, message: "saved\ncheckpoint-1", level: "info" },
  ]);
  assert.ok(readFileSync(path, "utf8").endsWith("}\n"));
});

test("a number that is not finite is null", () => {
  const sink = jsonlSink(path);
  sink.write(stepEvent(1, Number.NaN));
  sink.write(stepEvent(2, Number.POSITIVE_INFINITY));
  sink.close();
  assert.deepEqual(
    lines().map(({ loss }) => loss),
    [null, null],
  );
});

test("without a resume step, lines are added to what is there", () => {
  for (const step of [1, 2]) {
    const sink = jsonlSink(path);
    sink.write(stepEvent(step));
    sink.close();
  }
  assert.deepEqual(
    lines().map(({ step }) => step),
    [1, 2],
  );
});

test("on resume, lines of later steps go and the rest stays byte for byte", () => {
  const events = [evalEvent(0), stepEvent(1), stepEvent(2), evalEvent(2), stepEvent(3), evalEvent(3)];
  const before = jsonlSink(path);
  for (const event of events) before.write(event);
  before.close();
  const kept = events
    .slice(0, 4)
    .map((event) => `${JSON.stringify(event)}\n`)
    .join("");

  const after = jsonlSink(path, { resumeStep: 2 });
  assert.equal(readFileSync(path, "utf8"), kept);
  after.write(stepEvent(3, 1.25));
  after.close();
  assert.equal(readFileSync(path, "utf8"), `${kept}${JSON.stringify(stepEvent(3, 1.25))}\n`);
  assert.deepEqual(readdirSync(folder), ["metrics.jsonl"]);
});

test("the shortened file replaces the old one whole: the old one is never written to", () => {
  const before = jsonlSink(path);
  before.write(stepEvent(1));
  before.write(stepEvent(2));
  const { ino } = statSync(path);
  jsonlSink(path, { resumeStep: 1 }).close();
  assert.notEqual(statSync(path).ino, ino);
  before.close();
});

test("on resume, a last line that was cut short is dropped", () => {
  writeFileSync(path, `${JSON.stringify(stepEvent(1))}\n{"kind":"step","step":2,"lo`);
  jsonlSink(path, { resumeStep: 5 }).close();
  assert.deepEqual(lines(), [stepEvent(1)]);
});

test("a run that begins at step 0 keeps nothing of an older one", () => {
  writeFileSync(path, `${JSON.stringify(evalEvent(0))}\n${JSON.stringify(stepEvent(1))}\n`);
  jsonlSink(path, { resumeStep: 0 }).close();
  assert.equal(readFileSync(path, "utf8"), "");
});

test("on resume, a missing file begins empty", () => {
  jsonlSink(path, { resumeStep: 5 }).close();
  assert.equal(readFileSync(path, "utf8"), "");
});

test("on resume, a line that is no record is named", () => {
  writeFileSync(path, `${JSON.stringify(stepEvent(1))}\nstep 2 loss 3\n${JSON.stringify(stepEvent(3))}\n`);
  assert.throws(() => jsonlSink(path, { resumeStep: 5 }), {
    name: "UserError",
    message: [
      `${path}:2: no line of metrics (expected a JSON object with a number "step").`,
      "Remove the line, or the file.",
    ].join(" "),
  });
});

test("a disk that is full from the start drops lines and is said once", { skip: !existsSync("/dev/full") }, () => {
  const said: string[] = [];
  const sink = jsonlSink("/dev/full", { warn: (message) => said.push(message) });
  for (const step of [1, 2, 3]) sink.write(stepEvent(step));
  sink.close();
  assert.deepEqual(said, ["/dev/full: the disk is full. Training goes on; lines are dropped until it can be written."]);
});

test("a disk that fills up and is freed again: whole lines, and one that says how many are missing", (t) => {
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).status !== 0) {
    t.skip("a small disk cannot be mounted (needs root)");
    return;
  }
  try {
    const said: string[] = [];
    const sink = jsonlSink(path, { warn: (message) => said.push(message) });
    sink.write(stepEvent(1));
    const filler = join(folder, "filler");
    // All pages but the one that the file has begun: a line that crosses its end is cut short.
    writeFileSync(filler, Buffer.alloc(15 * 4096));
    for (let step = 2; step <= 40; step++) sink.write(stepEvent(step));
    assert.ok(readFileSync(path, "utf8").endsWith("}\n"));
    rmSync(filler);
    sink.write(stepEvent(41));
    sink.close();
    // Every event is there or counted as missing.
    const missing = (event: Record<string, unknown>): number =>
      event.kind === "message" ? Number(/^\d+/.exec(String(event.message))) : 0;
    const events = lines();
    const steps = events.filter(({ kind }) => kind === "step");
    assert.deepEqual(events.at(-1), stepEvent(41));
    assert.ok(steps.length < 41);
    assert.equal(
      events.reduce((sum, event) => sum + missing(event), steps.length),
      41,
    );
    assert.match(said[0], /: the disk is full\. Training goes on/);
    assert.match(said.at(-1) as string, / is written again; \d+ lines? could not be written$/);
  } finally {
    assert.equal(spawnSync("umount", [folder]).status, 0);
  }
});

test("names from outside cannot speak to a terminal through the file", () => {
  const sink = jsonlSink(path);
  const message = "\x1b[2Jwiped \x9b31m \u202Ebackwards";
  sink.write({ kind: "message", step: 1, message, level: "info" });
  sink.close();
  assert.equal(lines()[0].message, message);
  assert.doesNotMatch(readFileSync(path, "utf8").trimEnd(), /[\p{Cc}\p{Bidi_C}]/u);
});

test("a folder that is missing, or in the way, is the person's to mend", () => {
  assert.throws(
    () => jsonlSink(join(folder, "no", "metrics.jsonl")),
    /metrics\.jsonl: its folder does not exist\. Make it, or choose another output_dir\.$/,
  );
  assert.throws(
    () => jsonlSink(folder),
    (error) => error instanceof UserError && error.message.startsWith(`${folder}: a folder has this name`),
  );
});

test("what is made again after the last step leaves no second line, and a line that a kill came before is named once", () => {
  const first = jsonlSink(path);
  for (const event of [stepEvent(1), evalEvent(1), stepEvent(2), evalEvent(2)]) first.write(event);
  first.close();
  jsonlSink(path, { resumeStep: 2, lineDue: true, evaluatesAgain: true }).close();
  assert.deepEqual(lines(), [stepEvent(1), evalEvent(1), stepEvent(2)]);
  const message = "step 3 was made and lasts, but its line is missing: the run was killed, or the disk was full";
  for (let times = 0; times < 2; times++)
    jsonlSink(path, { resumeStep: 3, lineDue: true, evaluatesAgain: true }).close();
  assert.deepEqual(lines().slice(3), [{ kind: "message", step: 3, message, level: "warning" }]);
  // Lines that logging_steps leaves out, and another folder, are no gap.
  jsonlSink(path, { resumeStep: 4, lineDue: false }).close();
  const other = join(folder, "other.jsonl");
  jsonlSink(other, { resumeStep: 4, lineDue: true }).close();
  assert.equal(lines().length, 4);
  assert.equal(readFileSync(other, "utf8"), "");
});
