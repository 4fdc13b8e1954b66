// What the system refuses is said with the path and the reason; and a value in a message is short whatever it is.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { excerpt } from "./errors.js";
import { readWholeFile, statOf, systemFailure } from "./read-file.js";

function emptyFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-read-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("a file of many gigabytes in place of a text is refused before it is read", (t) => {
  const path = join(emptyFolder(t), "config.json");
  writeFileSync(path, "");
  truncateSync(path, 8 * 2 ** 30);
  assert.throws(() => readWholeFile(path), {
    name: "UserError",
    message: /config\.json: has 8\.00 GiB \(expected at most 400 MiB\)/,
  });
  assert.throws(() => readWholeFile("/dev/zero"), {
    name: "UserError",
    message: "/dev/zero: is a device (expected an ordinary file).",
  });
});

test("nothing at a path is no failure; a path that cannot be is one", (t) => {
  const folder = emptyFolder(t);
  writeFileSync(join(folder, "f"), "");
  assert.equal(statOf(join(folder, "none")), undefined);
  assert.equal(statOf(join(folder, "f/x")), undefined);
  assert.throws(() => statOf("x".repeat(5000)), { name: "UserError", message: /x\.\.\.: the path is too long\.$/ });
  assert.throws(() => statOf("a\0b"), { name: "UserError", message: /null character/ });
});

test("failures of the system with a file become sentences, others stay", (t) => {
  const folder = emptyFolder(t);
  const failureOf = (read: () => unknown): unknown => {
    try {
      return read();
    } catch (failure) {
      return failure;
    }
  };
  assert.equal(
    systemFailure(failureOf(() => readFileSync(join(folder, "none"))))?.message,
    `${folder}/none: no such file.`,
  );
  assert.equal(systemFailure(new TypeError("x is not a function")), undefined);
  assert.equal(systemFailure("text"), undefined);
});

test("an excerpt is short, and of any value", () => {
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  let deep: unknown = 1;
  for (let depth = 0; depth < 100_000; depth++) deep = [deep];
  assert.equal(excerpt(undefined), "missing");
  assert.equal(excerpt([1, "a", null]), '[1,"a",null]');
  assert.equal(excerpt(deep), '[[["..."]]]');
  assert.equal(excerpt(circle), '{"self":{"self":{"self":"..."}}}');
  assert.equal(excerpt("x".repeat(1e6)).length, 83);
  assert.equal(excerpt(new Array(1e6).fill(0)), '[0,0,0,0,0,0,0,0,"..."]');
  assert.equal(excerpt({ toString: 1, toJSON: 2 }), '{"toString":1,"toJSON":2}');
});
