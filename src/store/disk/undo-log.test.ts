// Old bytes come back from the log, in whichever step of a run the crash fell.
import assert from "node:assert/strict";
import fs, { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { SharedMapping } from "../../torch/mapping.js";
import { writeBytes } from "../../torch/tensor.js";
import { rollBack, UNDO_FILE, UndoLog } from "./undo-log.js";

const BYTES = 10_000;
const { writeSync } = fs;

/** Two files of a working copy, whose bytes are all `value` until `set` says otherwise. */
function workingCopy(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-undo-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const names = ["block-000.safetensors", "block-001.safetensors"];
  const files = names.map((name) => new SharedMapping(join(folder, name), BYTES));
  t.after(() => files.forEach((file) => file.close()));
  const set = (values: number[]): void =>
    files.forEach((file, i) => writeBytes(file.tensor, 0, new Uint8Array(BYTES).fill(values[i])));
  const values = (): number[] =>
    names.map((name) => {
      const bytes = readFileSync(join(folder, name));
      assert.ok(bytes.equals(Buffer.alloc(BYTES, bytes[0])), `${name} is a mix`);
      return bytes[0];
    });
  return { folder, files, set, values };
}

test("a step that was cut off is undone, in the first step of a run and in later ones", (t) => {
  const { folder, files, set, values } = workingCopy(t);
  const log = new UndoLog(folder);
  t.after(() => log.close());
  set([10, 20]);
  for (const step of [1, 2, 3]) {
    const before = values();
    log.append(step, files);
    set([step, step]);
    // What a process that starts here would find and do.
    assert.equal(statSync(join(folder, UNDO_FILE)).size, 2 * (BYTES + 1024), "nothing of the steps before is left");
    assert.equal(rollBack(folder, step - 1).length, 2);
    assert.deepEqual(values(), before);
    set([step, step]);
    log.clear();
  }
});

test("a file whose record was not finished was not changed yet, and stays", (t) => {
  const { folder, files, set, values } = workingCopy(t);
  const log = new UndoLog(folder);
  t.after(() => log.close());
  set([10, 20]);
  log.append(7, files);
  set([1, 20]);
  truncateSync(join(folder, UNDO_FILE), BYTES + 1024 + BYTES);
  assert.deepEqual(rollBack(folder, 6), ["block-000.safetensors"]);
  assert.deepEqual(values(), [10, 20]);
});

test("the log of a step that is finished restores nothing", (t) => {
  const { folder, files, set, values } = workingCopy(t);
  const log = new UndoLog(folder);
  t.after(() => log.close());
  set([10, 20]);
  log.append(3, files);
  set([11, 21]);
  assert.deepEqual(rollBack(folder, 3), []);
  assert.deepEqual(values(), [11, 21]);
  assert.deepEqual(rollBack(folder, 2), [], "and it is emptied");
});

test("a disk that fills up within a record's head, bytes or mark is refused, and no file counts as kept that is not", (t) => {
  const { folder, files, set, values } = workingCopy(t);
  set([10, 20]);
  // Of the first record, and of the second.
  for (const room of [100, 512 + 5000, 512 + BYTES + 276, BYTES + 1024 + 512 + BYTES + 1]) {
    const log = new UndoLog(folder);
    let left = room;
    // As the system does: it takes what there is room for, and refuses from then on.
    const write = (file: number, bytes: Uint8Array, at = 0, length = bytes.length - at): number => {
      if (left === 0)
        throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", errno: -28 });
      const count = writeSync(file, bytes, at, Math.min(left, length));
      left -= count;
      return count;
    };
    const mocked = t.mock.method(fs, "writeSync", write);
    syncBuiltinESMExports();
    try {
      assert.throws(() => log.append(5, files), /undo\.log: cannot be written: the disk is full/);
    } finally {
      mocked.mock.restore();
      syncBuiltinESMExports();
      log.close();
    }
    assert.deepEqual(rollBack(folder, 4), room > BYTES + 1024 ? ["block-000.safetensors"] : []);
    assert.deepEqual(values(), [10, 20]);
  }
});
