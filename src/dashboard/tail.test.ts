// What has come to a file since the last look: whole lines, broken ones counted, a torn last line waited for, a new file told apart.
import assert from "node:assert/strict";
import { renameSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { type Place, readPiece } from "./tail.js";
import { addLine, addText, makeFolder, stepLine } from "./testing-runs.js";

const START: Place = { file: "", offset: 0 };

test("each look gives what is new, and a half-written last line when it is whole", (t) => {
  const dir = makeFolder(t);
  const path = join(dir, "metrics.jsonl");
  addLine(dir, stepLine(1));
  const first = readPiece(path, START);
  assert.deepEqual(first.events, [stepLine(1)]);
  assert.deepEqual([first.lines, first.broken, first.restarted, first.more], [1, [], false, false]);
  const line = `${JSON.stringify({ kind: "message", step: 2, message: "Köln ✓ \u2028" })}\n`;
  const bytes = Buffer.from(line);
  let place: Place = first;
  // Every place at which a line can be torn, also inside a character.
  for (let end = 0; end < bytes.length; end++) {
    addText(dir, bytes.subarray(end, end + 1));
    const piece = readPiece(path, place);
    assert.equal(piece.events.length, end === bytes.length - 1 ? 1 : 0, `${end} bytes`);
    assert.deepEqual(piece.broken, []);
    place = piece;
  }
  assert.deepEqual(readPiece(path, place).events, []);
});

test("lines that are no events are counted, and the others read", (t) => {
  const dir = makeFolder(t);
  for (const text of [
    "",
    "{",
    "[]",
    "5",
    "null",
    '{"kind":"step"}',
    '{"kind":1,"step":2}',
    '{"step":2}',
    "\u0000\u0000",
  ])
    addText(dir, `${text}\n`);
  addLine(dir, stepLine(3));
  addText(dir, '{"kind":"st');
  const { events, lines, broken } = readPiece(join(dir, "metrics.jsonl"), START);
  assert.deepEqual([events.length, lines, broken], [1, 10, [1, 2, 3, 4, 5, 6, 7, 8, 9]]);
});

test("a long file comes in pieces, that join to all lines", (t) => {
  const dir = makeFolder(t);
  for (let step = 1; step <= 40; step++) addLine(dir, stepLine(step));
  for (const size of [700, 1500, 4000, 1 << 20]) {
    const steps: number[] = [];
    let place: Place = START;
    for (let more = true; more; ) {
      const piece = readPiece(join(dir, "metrics.jsonl"), place, size);
      assert.deepEqual(piece.broken, []);
      steps.push(...piece.events.map(({ step }) => step));
      ({ more } = piece);
      place = piece;
    }
    assert.deepEqual(
      steps,
      Array.from({ length: 40 }, (_, i) => i + 1),
      `pieces of ${size} bytes`,
    );
  }
});

test("a line without an end is passed over, and what is behind it read", (t) => {
  const dir = makeFolder(t);
  addText(dir, `${"x".repeat(2500)}\n`);
  addLine(dir, stepLine(1));
  let place: Place = START;
  const steps: number[] = [];
  for (let more = true; more; ) {
    const piece = readPiece(join(dir, "metrics.jsonl"), place, 1000);
    steps.push(...piece.events.map(({ step }) => step));
    ({ more } = piece);
    place = piece;
  }
  assert.deepEqual(steps, [1]);
});

test("a file that was replaced or cut is read anew, which is said", (t) => {
  const dir = makeFolder(t);
  const path = join(dir, "metrics.jsonl");
  for (const step of [1, 2, 3]) addLine(dir, stepLine(step));
  const whole = readPiece(path, START);
  writeFileSync(join(dir, "new"), `${JSON.stringify(stepLine(1))}\n`);
  renameSync(join(dir, "new"), path);
  const replaced = readPiece(path, whole);
  assert.deepEqual([replaced.restarted, replaced.events.map(({ step }) => step)], [true, [1]]);
  addLine(dir, stepLine(2));
  const grown = readPiece(path, replaced);
  assert.deepEqual([grown.restarted, grown.events.map(({ step }) => step)], [false, [2]]);
  truncateSync(path, 0);
  assert.deepEqual([readPiece(path, grown).restarted, readPiece(path, grown).offset], [true, 0]);
});

test("a run that began anew is told from the one it replaced, though its file has the same number", (t) => {
  const step = (loss: number, at: number): object => ({ ...stepLine(at), loss });
  for (const [before, after] of [
    [1, 1],
    [2, 9],
    [30, 30],
  ]) {
    const dir = makeFolder(t);
    const path = join(dir, "metrics.jsonl");
    for (let at = 1; at <= before; at++) addLine(dir, step(2, at));
    const old = readPiece(path, START);
    // Emptied and written again, which keeps the number surely; removed and made again, most file systems keep it.
    truncateSync(path, 0);
    for (let at = 1; at <= after; at++) addLine(dir, step(3, at));
    const anew = readPiece(path, old);
    assert.deepEqual([anew.restarted, anew.events.length], [true, after], `${before} lines, then ${after}`);
    assert.equal(readPiece(path, anew).restarted, false);
  }
});

test("a link, a folder and a file that is not there are refused", (t) => {
  const dir = makeFolder(t);
  writeFileSync(join(dir, "secret"), `${JSON.stringify(stepLine(1))}\n`);
  symlinkSync(join(dir, "secret"), join(dir, "link"));
  for (const name of ["link", "none", "."])
    assert.throws(() => readPiece(join(dir, name), START), { name: "UserError" }, name);
});
