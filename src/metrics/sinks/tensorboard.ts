// Event files for TensorBoard, directly in the run's folder: `tensorboard --logdir runs` shows a run under its folder's
// name. Each start has a file, with frames of TensorFlow's record format around Event messages. Both are written here
// by hand, since scalars and texts need only a dozen fields. The sink owns its open file until `close`.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import type { RunEvent, Sink } from "../record.js";
import { openForAppending, whyNot } from "./append.js";
import { type Scalar, scalarsOf } from "./scalars.js";
import type { SinkKind } from "./sink.js";

/**
 * The name has the second of the start, because TensorBoard reads the files of a folder in the order of their names.
 */
const EVENT_FILE = /^events\.out\.tfevents\.(\d+)\.revmoe$/;

export const tensorboard: SinkKind = {
  name: "tensorboard",
  about: "event files in output_dir",
  owns: (name) => EVENT_FILE.test(name),
  open: ({ dir, startStep }) => tensorboardSink(dir, startStep),
};

/** Continues after `startStep`: TensorBoard then drops what earlier files say of later steps. */
export function tensorboardSink(dir: string, startStep: number): Sink {
  const path = join(dir, nextName(dir));
  const file = openForAppending(path);
  const write = (...messages: Uint8Array[]): void => {
    try {
      file.append(Buffer.concat(messages.map(frame)));
    } catch (failure) {
      throw new Error(`${path}: ${whyNot(failure)}`);
    }
  };
  // Written with the first event, so that a full disk at the start does not end the run either.
  let opening = [versionEvent(), ...(startStep > 0 ? [restartEvent(startStep + 1)] : [])];
  let last = startStep;
  const prompts: string[] = [];
  const valuesOf = (event: RunEvent): Uint8Array[] => {
    if (event.kind !== "sample") return scalarsOf(event).map(scalarValue);
    if (!prompts.includes(event.prompt)) prompts.push(event.prompt);
    return [textValue(`samples/${prompts.indexOf(event.prompt) + 1}`, `${event.prompt}${event.text}`)];
  };
  return {
    write: (event) => {
      const values = valuesOf(event);
      if (values.length === 0) return;
      // A run that went back to an earlier step makes the steps after it again.
      const again = event.kind === "step" && event.step <= last ? [restartEvent(event.step)] : [];
      write(...opening, ...again, summaryEvent(event.step, values));
      opening = [];
      if (event.kind === "step") last = event.step;
    },
    close: () => file.close(),
  };
}

/** A later second than that of every existing file, even if the clock was set back. */
function nextName(dir: string): string {
  const names = existsSync(dir) ? readdirSync(dir) : [];
  const seconds = names.map((name) => Number(EVENT_FILE.exec(name)?.[1] ?? 0));
  return `events.out.tfevents.${Math.max(Math.floor(Date.now() / 1000), ...seconds.map((each) => each + 1))}.revmoe`;
}

// Protocol buffers: event.proto, summary.proto and tensor.proto of TensorFlow. A field is its number and wire type,
// then its value.
const VARINT = 0;
const DOUBLE = 1;
const BYTES = 2;
const FLOAT = 5;
const DT_STRING = 7;
const key = (field: number, type: number): Uint8Array => varint(field * 8 + type);

const versionEvent = (): Uint8Array => Buffer.concat([wallTime(), bytesField(3, Buffer.from("brain.Event:2"))]);

/** A SessionLog with status START: everything said before of this and later steps is void. */
const restartEvent = (step: number): Uint8Array =>
  Buffer.concat([wallTime(), stepField(step), bytesField(7, Buffer.concat([key(1, VARINT), varint(1)]))]);

const summaryEvent = (step: number, values: Uint8Array[]): Uint8Array =>
  Buffer.concat([
    wallTime(),
    stepField(step),
    bytesField(5, Buffer.concat(values.map((value) => bytesField(1, value)))),
  ]);

function scalarValue([tag, value]: Scalar): Uint8Array {
  const number = Buffer.alloc(4);
  number.writeFloatLE(value);
  return Buffer.concat([bytesField(1, Buffer.from(tag)), key(2, FLOAT), number]);
}

/**
 * A tensor of one string for the plugin "text", which shows Markdown; the text is indented so that it is shown
 * unchanged.
 */
function textValue(tag: string, text: string): Uint8Array {
  const shown = Buffer.from(text.replace(/^/gm, "    "));
  const one = bytesField(2, Buffer.concat([key(1, VARINT), varint(1)]));
  const tensor = Buffer.concat([key(1, VARINT), varint(DT_STRING), bytesField(2, one), bytesField(8, shown)]);
  const plugin = bytesField(1, bytesField(1, Buffer.from("text")));
  return Buffer.concat([bytesField(1, Buffer.from(tag)), bytesField(8, tensor), bytesField(9, plugin)]);
}

function wallTime(): Uint8Array {
  const seconds = Buffer.alloc(8);
  seconds.writeDoubleLE(Date.now() / 1000);
  return Buffer.concat([key(1, DOUBLE), seconds]);
}

const stepField = (step: number): Uint8Array => Buffer.concat([key(2, VARINT), varint(step)]);

const bytesField = (field: number, bytes: Uint8Array): Uint8Array =>
  Buffer.concat([key(field, BYTES), varint(bytes.length), bytes]);

/** Seven bits per byte, the lowest first. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}

/** A record: its length, a checksum of the length, the message, a checksum of the message. */
function frame(message: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(message.length));
  return Buffer.concat([length, checksum(length), message, checksum(message)]);
}

/** CRC-32C (Castagnoli), masked as TensorFlow does. */
function checksum(bytes: Uint8Array): Uint8Array {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  crc = ~crc;
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
  return masked;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});
