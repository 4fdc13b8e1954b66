import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";

import { consoleSink } from "./console.js";
import { canColor, canRedraw, type Output } from "../output.js";
import type { RunEvent, StepRecord } from "../record.js";

const CLEAR = "\r\x1b[2K";

const RECORD: StepRecord = {
  step: 12,
  phase: "full",
  epoch: 0.12,
  loss: 2.34567,
  learningRate: 9.5e-6,
  gradNorm: 1.5,
  trainedTokens: 900,
  tokensPerSecond: 1234.4,
  stepMs: 1500,
  peakBytes: 3.5 * 2 ** 30,
  liveBytes: 2 ** 30,
  rssBytes: 2 ** 31,
  streamBytes: 1024,
  ...{ weightBytes: 512, stateBytes: 256, gradientBytes: 128, keptBytes: 64, teacherBytes: 0, workBytes: 32 },
  bitBytes: 512,
  reconstructionError: 0,
  inverse: null,
  expertLoad: [],
  auxLoss: null,
  zLoss: null,
  meanTokenAccuracy: null,
};
const stepEvent = (changes: Partial<StepRecord> = {}): RunEvent => ({ kind: "step", ...RECORD, ...changes });
const EVAL: RunEvent = {
  kind: "eval",
  step: 12,
  epoch: 0.12,
  evalLoss: 2.1,
  evalPerplexity: 8.16617,
  evalMeanTokenAccuracy: 0.5,
  network: "ordinary",
};
const WARNING: RunEvent = { kind: "message", step: 12, message: "3 experts of layer 1 got no token", level: "warning" };

class Recorder implements Output {
  text = "";
  constructor(
    readonly isTTY: boolean,
    readonly columns?: number,
  ) {}
  write(text: string): void {
    this.text += text;
  }
  take(): string {
    const { text } = this;
    this.text = "";
    return text;
  }
}

test("a plain stream gets a line per event and no escape sequences", () => {
  const out = new Recorder(false);
  const sink = consoleSink({ out, totalSteps: 100, env: {} });
  sink.write(stepEvent());
  sink.write(EVAL);
  sink.write(WARNING);
  sink.write({ kind: "message", step: 12, message: "saved runs/a/checkpoint-12", level: "info" });
  sink.close();
  assert.equal(
    out.text,
    [
      "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6",
      "eval at step 12: loss 2.1000, perplexity 8.17, accuracy 0.500 (as the ordinary network)",
      "warning: 3 experts of layer 1 got no token",
      "saved runs/a/checkpoint-12",
      "",
    ].join("\n"),
  );
});

test("a sample is a line, whatever is in it", () => {
  const out = new Recorder(false);
  const sink = consoleSink({ out, totalSteps: 100, env: {} });
  const text = ` "Ishmael".\n\u001b[2J\u202e${"x".repeat(900)}`;
  sink.write({ kind: "sample", step: 20, prompt: "Call me\n", text, network: "trained" });
  assert.match(
    out.text,
    /^sample at step 20: "Call me\\n" -> " \\"Ishmael\\"\.\\n\\u001b\[2J\\u202ex+ \[\.\.\. \d+ characters \.\.\.\] x+"\n$/,
  );
});

test("router losses stand behind the loss where they are on", () => {
  const out = new Recorder(false);
  consoleSink({ out, totalSteps: 100, env: {} }).write(stepEvent({ auxLoss: 2.01234, zLoss: 5.5 }));
  assert.equal(
    out.text,
    "step 12/100  loss 2.3457  aux 2.0123  z 5.5000  left 2m12s  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6\n",
  );
});

test("a plain stream is not cut at any width", () => {
  const out = new Recorder(false, 20);
  consoleSink({ out, totalSteps: 100, env: {} }).write(stepEvent());
  assert.equal(out.text.length, 77);
});

test("a terminal gets one line that is rewritten, with other lines above it", () => {
  const out = new Recorder(true, 100);
  const sink = consoleSink({ out, totalSteps: 100, env: { NO_COLOR: "1" } });
  sink.write({
    kind: "eval",
    step: 0,
    epoch: 0,
    evalLoss: 3,
    evalPerplexity: 20.0855,
    evalMeanTokenAccuracy: 0.5,
    network: "trained",
  });
  assert.equal(out.take(), "eval at step 0: loss 3.0000, perplexity 20.09, accuracy 0.500 (as trained)\n");
  sink.write(stepEvent());
  const progress = "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6";
  assert.equal(out.take(), CLEAR + progress);
  sink.write(EVAL);
  assert.equal(
    out.take(),
    `${CLEAR}eval at step 12: loss 2.1000, perplexity 8.17, accuracy 0.500 (as the ordinary network)\n${CLEAR}${progress}`,
  );
  sink.write(stepEvent({ step: 13, stepMs: 2500, tokensPerSecond: 512.3 }));
  // 2000 ms, the median of 1500 and 2500, for each of 87 steps.
  assert.equal(out.take(), `${CLEAR}step 13/100  loss 2.3457  left 2m54s  512 tok/s  peak 3.50 GiB  lr 9.50e-6`);
  sink.close();
  assert.equal(out.take(), "\n");
  sink.close();
  assert.equal(out.take(), "");
});

test("a narrow terminal drops whole parts from the end, then cuts the first; the last column stays free", () => {
  const widths: [number, string][] = [
    [80, "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6"],
    [77, "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6"],
    [76, "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB"],
    [26, "step 12/100  loss 2.3457"],
    [25, "step 12/100  loss 2.3457"],
    [24, "step 12/100"],
    [8, "step 12"],
  ];
  for (const [columns, expected] of widths) {
    const out = new Recorder(true, columns);
    consoleSink({ out, totalSteps: 100, env: { NO_COLOR: "1" } }).write(stepEvent());
    assert.equal(out.text, CLEAR + expected, `${columns} columns`);
  }
});

test("colour takes no width: the words are the same without it", () => {
  const out = new Recorder(true, 76);
  const sink = consoleSink({ out, totalSteps: 100, env: {} });
  sink.write(stepEvent());
  const painted = out.take();
  assert.ok(painted.includes("\x1b[1m2.3457\x1b[0m"), painted);
  assert.equal(
    painted
      .slice(CLEAR.length)
      .split("\x1b")
      .map((part) => part.replace(/^\[\d+m/, ""))
      .join(""),
    "step 12/100  loss 2.3457  left 2m12s  1.2 k tok/s  peak 3.50 GiB",
  );
  sink.write(WARNING);
  assert.ok(out.take().startsWith(`${CLEAR}\x1b[33mwarning: 3 experts of layer 1 got no token\x1b[0m\n`));
});

test("numbers that are not finite are shown as such", () => {
  const out = new Recorder(false);
  const sink = consoleSink({ out, totalSteps: 12, env: {} });
  sink.write(
    stepEvent({ loss: Number.NaN, learningRate: Number.NaN, tokensPerSecond: Number.NaN, stepMs: Number.NaN }),
  );
  sink.write(stepEvent({ loss: Number.POSITIVE_INFINITY, stepMs: 10 }));
  sink.write({
    kind: "eval",
    step: 12,
    epoch: 1,
    evalLoss: 800,
    evalPerplexity: Math.exp(800),
    evalMeanTokenAccuracy: 0.5,
    network: "trained",
  });
  sink.write({
    kind: "eval",
    step: 12,
    epoch: 1,
    evalLoss: Number.NaN,
    evalPerplexity: Number.NaN,
    evalMeanTokenAccuracy: 0.5,
    network: "trained",
  });
  assert.deepEqual(out.text.split("\n"), [
    "step 12/12  loss nan  left ?  nan tok/s  peak 3.50 GiB  lr nan",
    "step 12/12  loss inf  left 0ms  1.2 k tok/s  peak 3.50 GiB  lr 9.50e-6",
    "eval at step 12: loss 800.0000, perplexity inf, accuracy 0.500 (as trained)",
    "eval at step 12: loss nan, perplexity nan, accuracy 0.500 (as trained)",
    "",
  ]);
});

test("redrawing and colour depend on the terminal, TERM, NO_COLOR and FORCE_COLOR", () => {
  const terminal = new Recorder(true);
  assert.equal(canRedraw(terminal, {}), true);
  assert.equal(canRedraw(terminal, { TERM: "dumb" }), false);
  assert.equal(canRedraw(new Recorder(false), {}), false);
  assert.equal(canColor(terminal, {}), true);
  assert.equal(canColor(terminal, { NO_COLOR: "" }), true);
  assert.equal(canColor(terminal, { NO_COLOR: "1" }), false);
  assert.equal(canColor(terminal, { TERM: "dumb" }), false);
  const file = new Recorder(false);
  for (const [env, forFile, forTerminal] of [
    [{ FORCE_COLOR: "1" }, true, true],
    [{ FORCE_COLOR: "3", NO_COLOR: "1" }, true, true],
    [{ FORCE_COLOR: "1", TERM: "dumb" }, true, true],
    [{ FORCE_COLOR: "0" }, false, false],
    [{ FORCE_COLOR: "false" }, false, false],
    [{ FORCE_COLOR: "" }, false, true],
    [{ FORCE_COLOR: "", NO_COLOR: "1" }, false, false],
  ] as const) {
    assert.equal(canColor(file, env), forFile, JSON.stringify(env));
    assert.equal(canColor(terminal, env), forTerminal, JSON.stringify(env));
    assert.equal(canRedraw(file, env), false);
  }
});

test("forced colours reach a file, a line for each event, and NO_COLOR leaves no sequence of them", () => {
  const shown = (env: Record<string, string>, isTTY: boolean): string => {
    const out = new Recorder(isTTY, 200);
    const sink = consoleSink({ out, totalSteps: 100, env });
    sink.write(stepEvent());
    sink.write(EVAL);
    sink.write({ kind: "message", step: 12, message: "beware", level: "warning" });
    sink.close();
    return out.text;
  };
  const plain = shown({}, false);
  const forced = shown({ FORCE_COLOR: "1" }, false);
  assert.equal(stripVTControlCharacters(plain), plain);
  assert.equal(stripVTControlCharacters(forced), plain);
  for (const line of forced.trimEnd().split("\n")) assert.notEqual(stripVTControlCharacters(line), line);
  const colors = /\[\d+m/;
  assert.doesNotMatch(shown({ NO_COLOR: "1" }, true), colors);
  assert.match(shown({}, true), colors);
});
