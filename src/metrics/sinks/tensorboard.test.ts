// Event files read back by a small decoder of records and messages; test/golden/check_tensorboard.py reads them with
// TensorBoard itself.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import type { RunEvent } from "../record.js";
import { isReport } from "./registry.js";
import { tensorboardSink } from "./tensorboard.js";

interface Decoded {
  step: number;
  version?: string;
  restart: boolean;
  scalars: Record<string, number>;
  texts?: Record<string, string>;
}

function folderFor(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "revmoe-events-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** The fields of a message by number; a varint as a number. */
function* fieldsOf(message: Buffer): Generator<[field: number, value: number | Buffer]> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const type = key % 8;
    if (type === 0) yield [key >> 3, varint()];
    else {
      const length = type === 1 ? 8 : type === 5 ? 4 : varint();
      yield [key >> 3, message.subarray(at, (at += length))];
    }
  }
}

function decode(message: Buffer): Decoded {
  const event: Decoded = { step: 0, restart: false, scalars: {} };
  for (const [field, value] of fieldsOf(message)) {
    if (field === 2) event.step = value as number;
    if (field === 3) event.version = String(value);
    if (field === 7)
      event.restart = [...fieldsOf(value as Buffer)].some(([name, status]) => name === 1 && status === 1);
    if (field !== 5) continue;
    for (const [, scalar] of fieldsOf(value as Buffer)) {
      const {
        1: tag,
        2: number,
        8: tensor,
        9: about,
      } = Object.fromEntries(fieldsOf(scalar as Buffer)) as Record<number, Buffer>;
      if (tensor === undefined) event.scalars[String(tag)] = number.readFloatLE();
      else {
        const { 1: type, 8: text } = Object.fromEntries(fieldsOf(tensor)) as { 1: number; 8: Buffer };
        assert.equal(type, 7);
        assert.ok(about.includes("text"));
        event.texts = { ...event.texts, [String(tag)]: String(text) };
      }
    }
  }
  return event;
}

/** All events of a folder's files, in the order in which TensorBoard reads them. */
const eventsIn = (dir: string): Decoded[] =>
  readdirSync(dir)
    .sort()
    .flatMap((name) => {
      const bytes = readFileSync(join(dir, name));
      const events: Decoded[] = [];
      for (let at = 0; at < bytes.length; ) {
        const length = Number(bytes.readBigUInt64LE(at));
        events.push(decode(bytes.subarray(at + 12, at + 12 + length)));
        at += length + 16;
      }
      return events;
    });

const step = (number: number, loss = number / 2): RunEvent =>
  ({
    kind: "step",
    ...{ step: number, epoch: 0.5, loss, learningRate: 0.25, gradNorm: 2, tokensPerSecond: 100, peakBytes: 2 ** 33 },
    ...{ auxLoss: null, zLoss: null, meanTokenAccuracy: 0.75 },
  }) as RunEvent;

const evaluation = (at: number, network: "trained" | "ordinary"): RunEvent => ({
  kind: "eval",
  ...{ step: at, epoch: 1, evalLoss: 1.5, evalPerplexity: 4.5, evalMeanTokenAccuracy: 0.5, network },
});

test("samples are texts, numbered by their prompts, and shown as they are", (t) => {
  const dir = folderFor(t);
  const sink = tensorboardSink(dir, 0);
  const sample = (step: number, prompt: string, text: string): RunEvent => ({
    kind: "sample",
    ...{ step, prompt, text, network: "trained" },
  });
  sink.write(sample(0, "Call me", " **Ishmael**.\n# No title"));
  sink.write(sample(0, "Once", " upon"));
  sink.write(sample(4, "Call me", " \u00e4\n"));
  sink.close();
  const [, ...events] = eventsIn(dir);
  assert.deepEqual(
    events.map(({ step, texts }) => [step, texts]),
    [
      [0, { "samples/1": "    Call me **Ishmael**.\n    # No title" }],
      [0, { "samples/2": "    Once upon" }],
      [4, { "samples/1": "    Call me \u00e4\n    " }],
    ],
  );
});

test("scalars are named as transformers names them; messages leave nothing", (t) => {
  const dir = folderFor(t);
  const sink = tensorboardSink(dir, 0);
  sink.write(step(300));
  sink.write({ kind: "message", step: 300, message: "saved", level: "info" });
  sink.write(evaluation(300, "trained"));
  sink.write(evaluation(300, "ordinary"));
  sink.close();
  const [opening, ...events] = eventsIn(dir);
  assert.deepEqual(opening, { step: 0, version: "brain.Event:2", restart: false, scalars: {} });
  assert.deepEqual(
    events.map(({ scalars }) => scalars),
    [
      {
        ...{
          "train/loss": 150,
          "train/mean_token_accuracy": 0.75,
          "train/learning_rate": 0.25,
          "train/grad_norm": 2,
          "train/epoch": 0.5,
        },
        ...{ "train/tokens_per_second": 100, "train/peak_bytes": 2 ** 33 },
      },
      { "eval/loss": 1.5, "eval/perplexity": 4.5, "eval/mean_token_accuracy": 0.5 },
      { "eval_ordinary/loss": 1.5, "eval_ordinary/perplexity": 4.5, "eval_ordinary/mean_token_accuracy": 0.5 },
    ],
  );
  assert.deepEqual(new Set(events.map((event) => event.step)), new Set([300]));
});

test("the frames of the file are those of TensorFlow's record format", (t) => {
  const dir = folderFor(t);
  tensorboardSink(dir, 0).close();
  const sink = tensorboardSink(dir, 0);
  sink.write(step(1));
  sink.close();
  const [, name] = readdirSync(dir).sort();
  const bytes = readFileSync(join(dir, name));
  // The version event is 24 bytes in every event file there is: its length and the masked checksum of that.
  assert.equal(bytes.subarray(0, 12).toString("hex"), "1800000000000000a37f4b22");
});

test("a resumed run, and one that went back, take the steps after it again", (t) => {
  const dir = folderFor(t);
  const first = tensorboardSink(dir, 0);
  for (const number of [1, 2, 3, 4]) first.write(step(number));
  first.write(step(3));
  first.close();
  const second = tensorboardSink(dir, 2);
  second.write(step(3));
  second.close();
  const restarts = eventsIn(dir).flatMap((event) => (event.restart ? [event.step] : []));
  assert.deepEqual(restarts, [3, 3]);
  const names = readdirSync(dir);
  assert.equal(names.length, 2);
  assert.ok(names.every(isReport));
});

test("a number that is not finite stays one", (t) => {
  const dir = folderFor(t);
  const sink = tensorboardSink(dir, 0);
  for (const loss of [Number.NaN, Infinity]) sink.write(step(1, loss));
  sink.close();
  const losses = eventsIn(dir).flatMap(({ scalars }) => ("train/loss" in scalars ? [scalars["train/loss"]] : []));
  assert.deepEqual(losses, [Number.NaN, Infinity]);
});

test("what cannot be written is an error with the path of the file", (t) => {
  const dir = folderFor(t);
  const sink = tensorboardSink(dir, 0);
  sink.close();
  assert.throws(() => sink.write(step(1)), /events\.out\.tfevents\.\d+\.revmoe: it cannot be written/);
});
