// Mapped files cut short by another process: whatever touches what is gone throws one sentence, and no process dies. Faults
// that are none of ours end the process as before.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "../errors.js";
import { native } from "./binding.js";
import { SharedMapping } from "./mapping.js";
import { copy_, fill_, mm, sum, viewDtype, view } from "./ops.js";
import { free, keep, scope } from "./scope.js";
import { byteSize, full, item, mapFile, readBytes, type Tensor, writeBytes } from "./tensor.js";

const PAGE = 4096;
const BYTES = 512 * PAGE;

function makeFile(t: TestContext, bytes = BYTES): { path: string; cut: (left: number) => void } {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-cut-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "file");
  writeFileSync(path, Buffer.alloc(bytes, 1));
  return { path, cut: (left) => assert.equal(spawnSync("truncate", ["-s", String(left), path]).status, 0) };
}

function cutShort(path: string, act: () => unknown): void {
  assert.throws(act, (failure: Error) => {
    assert.ok(failure instanceof UserError, failure.stack);
    assert.ok(
      failure.message.startsWith(`${path}: was cut short or could not be read while it was used`),
      failure.message,
    );
    return true;
  });
}

const WAYS: [string, (mapping: Tensor) => unknown][] = [
  ["a sum by all threads", (mapping) => item(sum(mapping))],
  [
    "a product",
    (mapping) =>
      scope(() => item(sum(mm(view(viewDtype(mapping, "float32"), [512, 1024]), full([1024, 4], 1, "float32"))))),
  ],
  ["a copy of bytes out", (mapping) => readBytes(mapping, 300 * PAGE, new Uint8Array(10))],
  ["a copy of bytes in", (mapping) => writeBytes(mapping, 300 * PAGE, new Uint8Array(10))],
  ["a copy into it", (mapping) => copy_(mapping, full([BYTES], 3, "uint8"))],
];

for (const [name, use] of WAYS) {
  test(`${name} of a file cut short: an error as long as it is mapped, and none after`, (t) => {
    const { path, cut } = makeFile(t);
    const mapping = keep(mapFile(path, BYTES));
    scope(() => void use(mapping));
    cut(100 * PAGE + 7);
    for (let i = 0; i < 2; i++) cutShort(path, () => scope(() => void use(mapping)));
    // What is left of the file is not used either, nor anything else: nobody knows what the zeros went into.
    cutShort(path, () => scope(() => item(sum(full([2], 1, "float32")))));
    free(mapping);
    assert.equal(
      scope(() => item(sum(full([2], 1, "float32")))),
      2,
    );
  });
}

test("pages that a thread reads ahead, and pages that are written: the error comes before anything is called kept", (t) => {
  const { path, cut } = makeFile(t);
  for (const touch of [
    (mapping: SharedMapping) => {
      mapping.readAhead();
      mapping.awaitRead();
    },
    (mapping: SharedMapping) => fill_(mapping.tensor, 5),
    // Nobody touches what is gone, and yet it is gone.
    () => {},
  ]) {
    writeFileSync(path, Buffer.alloc(BYTES, 1));
    const mapping = new SharedMapping(path);
    cut(PAGE);
    cutShort(path, () => {
      touch(mapping);
      mapping.sync();
    });
    mapping.close();
    native.checkFiles();
  }
});

test("a fault that no error told of is told of once, also when the mapping has gone", (t) => {
  const { path, cut } = makeFile(t);
  const mapping = new SharedMapping(path);
  cut(PAGE);
  mapping.readAhead();
  mapping.close();
  cutShort(path, () => native.checkFiles());
  native.checkFiles();
});

test("several files: the one that was cut is named, the others are as they were", (t) => {
  const files = Array.from({ length: 3 }, () => makeFile(t));
  const mappings = files.map(({ path }) => keep(mapFile(path)));
  files[1].cut(0);
  cutShort(files[1].path, () => scope(() => item(sum(mappings[1]))));
  free(mappings[1]);
  for (const mapping of [mappings[0], mappings[2]]) {
    assert.equal(
      scope(() => item(sum(mapping))),
      BYTES,
    );
    free(mapping);
  }
});

test("a file shorter than it is said to be is refused when it is mapped, and one that is not there too", (t) => {
  const { path, cut } = makeFile(t);
  cut(10);
  cutShort(path, () => mapFile(path, 11));
  assert.equal(byteSize(keep(mapFile(path, 10))), 10);
  assert.throws(() => mapFile(`${path}.gone`), UserError);
  cut(0);
  assert.throws(() => mapFile(path), UserError);
});

test("a SIGBUS that is none of ours ends the process", () => {
  const binding = fileURLToPath(new URL("./tensor.js", import.meta.url));
  const script = `const { mapFile } = await import(${JSON.stringify(binding)}); mapFile(process.execPath);
    process.kill(process.pid, "SIGBUS"); setTimeout(() => {}, 5000);`;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.equal(child.signal, "SIGBUS", child.stderr);
});
