// A folder appears completely or not at all: new, replaced, failed, killed between steps, on a full disk.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../errors.js";
import { scope } from "../torch/scope.js";
import { zeros } from "../torch/tensor.js";
import { saveFolder } from "./save-folder.js";
import { writeSafetensors } from "./safetensors-writer.js";
import { withFolder } from "./testing-model.js";

const MODEL = "model.safetensors";

function contents(folder: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name), "utf8")]),
  );
}

function put(folder: string, files: Record<string, string>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
}

test("a new folder appears with its parents; an older model is replaced whole; nothing stays beside", () =>
  withFolder((folder) => {
    const dir = join(folder, "runs", "a");
    saveFolder(dir, (side) => {
      assert.equal(side, `${dir}.partial`);
      assert.equal(existsSync(dir), false);
      put(side, { [MODEL]: "1", "old.txt": "o" });
    });
    saveFolder(`${dir}/`, (side) => {
      assert.deepEqual(contents(dir), { [MODEL]: "1", "old.txt": "o" }, "the older one stays until the new one is complete");
      put(side, { [MODEL]: "2" });
    });
    assert.deepEqual(contents(dir), { [MODEL]: "2" });
    assert.deepEqual(readdirSync(join(folder, "runs")), ["a"]);
  }));

test("a failure leaves what was there, removes the side folder, and says so", () =>
  withFolder((folder) => {
    const dir = join(folder, "a");
    put(dir, { [MODEL]: "1" });
    const failing = (failure: Error): Error => {
      try {
        saveFolder(dir, (side) => {
          put(side, { [MODEL]: "2" });
          throw failure;
        });
      } catch (thrown) {
        return thrown as Error;
      }
      return assert.fail("must throw");
    };
    assert.equal(failing(new UserError("x: is bad.")).message, "x: is bad. Nothing that was saved before was touched.");
    const bug = new RangeError("bug");
    assert.equal(failing(bug), bug);
    assert.throws(
      () => saveFolder(dir, (side) => void readFileSync(join(side, "none"))),
      (failure: Error) => failure instanceof UserError && /a: cannot be saved: ENOENT.*Nothing that was saved before/.test(failure.message),
    );
    assert.deepEqual(contents(dir), { [MODEL]: "1" });
    assert.deepEqual(readdirSync(folder), ["a"]);
  }));

test("what a killed run left is cleared, and its older folder comes back", () =>
  withFolder((folder) => {
    const dir = join(folder, "a");
    // Killed while filling.
    put(dir, { [MODEL]: "1" });
    put(`${dir}.partial`, { [MODEL]: "half", "stale.txt": "s" });
    saveFolder(dir, (side) => put(side, { [MODEL]: "2" }));
    assert.deepEqual([contents(dir), readdirSync(folder)], [{ [MODEL]: "2" }, ["a"]]);
    // Killed between the two renames: the older folder is aside.
    put(join(folder, "b.previous"), { [MODEL]: "old" });
    put(join(folder, "b.partial"), { [MODEL]: "new" });
    assert.throws(
      () =>
        saveFolder(join(folder, "b"), () => {
          throw new UserError("no.");
        }),
      UserError,
    );
    assert.deepEqual([contents(join(folder, "b")), readdirSync(folder)], [{ [MODEL]: "old" }, ["a", "b"]]);
    // Killed after the renames, before the older one was removed.
    put(`${dir}.previous`, { [MODEL]: "old" });
    saveFolder(dir, (side) => put(side, { [MODEL]: "3" }));
    assert.deepEqual([contents(dir), readdirSync(folder)], [{ [MODEL]: "3" }, ["a", "b"]]);
  }));

test("a folder with anything but a model in it is not replaced, a file neither; an empty one is", () =>
  withFolder((folder) => {
    const refuses = (name: string, pattern: RegExp): void =>
      assert.throws(
        () => saveFolder(join(folder, name), () => assert.fail("must not begin")),
        (failure: Error) => {
          assert.ok(failure instanceof UserError);
          assert.match(failure.message, pattern);
          return true;
        },
      );
    put(join(folder, "home"), { "letter.txt": "dear" });
    refuses("home", /home: is not replaced, because it holds letter\.txt and no model \(expected a new or empty folder/);
    put(join(folder, "run", "checkpoint-5"), {});
    put(join(folder, "run"), { [MODEL]: "1" });
    refuses("run", /run: is not replaced, because it holds the folder checkpoint-5/);
    put(folder, { file: "f" });
    refuses("file", /file: is not replaced, because it is no folder that can be read/);
    assert.deepEqual(contents(join(folder, "home")), { "letter.txt": "dear" });
    mkdirSync(join(folder, "empty"));
    saveFolder(join(folder, "empty"), (side) => put(side, { [MODEL]: "1" }));
    assert.deepEqual(contents(join(folder, "empty")), { [MODEL]: "1" });
  }));

test("a link to a folder stays a link: the folder it leads to is replaced", () =>
  withFolder((folder) => {
    put(join(folder, "disk", "a"), { [MODEL]: "1" });
    symlinkSync(join(folder, "disk", "a"), join(folder, "link"));
    saveFolder(join(folder, "link"), (side) => put(side, { [MODEL]: "2" }));
    assert.deepEqual(contents(join(folder, "disk", "a")), { [MODEL]: "2" });
    assert.deepEqual(contents(join(folder, "link")), { [MODEL]: "2" });
  }));

test("a disk that fills up in the middle of a save leaves the older folder intact", (t) =>
  withFolder((folder) => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]);
    if (mounted.status !== 0) return t.skip("a small disk can be mounted by root alone");
    try {
      const dir = join(disk, "a");
      put(dir, { [MODEL]: "1" });
      const save = (): void =>
        saveFolder(dir, (side) =>
          scope(() =>
            writeSafetensors(join(side, MODEL), [
              { name: "x", dtype: "float32", shape: [2 ** 20], read: () => zeros([2 ** 20], "float32") },
            ]),
          ),
        );
      assert.throws(save, (failure: Error) => {
        assert.ok(failure instanceof UserError, String(failure));
        assert.match(
          failure.message,
          /a\.partial\/model\.safetensors: cannot be written: the disk is full \(4\.00 MiB needed, (9\d\d|10[0-2]\d) KiB written, 0 B free\)\. Free some space.* Nothing that was saved before was touched\./,
        );
        return true;
      });
      assert.deepEqual([contents(dir), readdirSync(disk)], [{ [MODEL]: "1" }, ["a"]]);
    } finally {
      spawnSync("umount", [disk]);
    }
  }));
