// A folder appears completely or not at all: new, replaced, failed, killed between steps, on a full disk. What a person had
// in a folder that is replaced is still there, wherever it was cut off.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs, { existsSync, mkdirSync, readdirSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { scope } from "../../torch/scope.js";
import { zeros } from "../../torch/tensor.js";
import { writeFileDurably } from "./disk.js";
import { MANIFEST_FILE, readManifest } from "./manifest.js";
import { saveFolder, settleFolders } from "./save-folder.js";
import { writeSafetensors } from "../safetensors/writer.js";
import { withFolder } from "../testing-model.js";

const MODEL = "model.safetensors";

/** The files of a folder by name, but for the manifest. */
function contents(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter((name) => name !== MANIFEST_FILE && lstatSync(join(folder, name)).isFile());
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

function put(folder: string, files: Record<string, string>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
}

/** A folder as this program saves it. */
const save = (folder: string, files: Record<string, string>): string[] =>
  saveFolder(folder, (side) => {
    for (const [name, text] of Object.entries(files)) writeFileDurably(join(side, name), text);
  });

test("a new folder appears with its parents; an older model is replaced whole; nothing stays beside", () =>
  withFolder((folder) => {
    const dir = join(folder, "runs", "a");
    saveFolder(dir, (side) => {
      assert.equal(side, `${dir}.partial`);
      assert.equal(existsSync(dir), false);
      put(side, { [MODEL]: "1", "old.txt": "o" });
    });
    saveFolder(`${dir}/`, (side) => {
      assert.deepEqual(
        contents(dir),
        { [MODEL]: "1", "old.txt": "o" },
        "the older one stays until the new one is complete",
      );
      put(side, { [MODEL]: "2" });
    });
    assert.deepEqual(contents(dir), { [MODEL]: "2" });
    assert.deepEqual(readdirSync(join(folder, "runs")), ["a"]);
  }));

test("a failure leaves what was there, removes the side folder, and says so", () =>
  withFolder((folder) => {
    const dir = join(folder, "a");
    save(dir, { [MODEL]: "1" });
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
      (failure: Error) =>
        failure instanceof UserError &&
        /a: cannot be saved: ENOENT.*Nothing that was saved before/.test(failure.message),
    );
    assert.deepEqual(contents(dir), { [MODEL]: "1" });
    assert.deepEqual(readdirSync(folder), ["a"]);
  }));

test("what a killed run left is cleared, and its older folder comes back", () =>
  withFolder((folder) => {
    const dir = join(folder, "a");
    // Killed while filling.
    save(dir, { [MODEL]: "1" });
    put(`${dir}.partial`, { [MODEL]: "half", "vocab.txt": "s" });
    save(dir, { [MODEL]: "2" });
    assert.deepEqual([contents(dir), readdirSync(folder)], [{ [MODEL]: "2" }, ["a"]]);
    // Killed between the two renames: the older folder is aside.
    save(join(folder, "b.revmoe-previous"), { [MODEL]: "old" });
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
    save(`${dir}.revmoe-previous`, { [MODEL]: "old" });
    save(dir, { [MODEL]: "3" });
    assert.deepEqual([contents(dir), readdirSync(folder)], [{ [MODEL]: "3" }, ["a", "b"]]);
    // A copy that a person made is no left-over.
    put(`${dir}.previous`, { [MODEL]: "mine" });
    save(dir, { [MODEL]: "4" });
    assert.deepEqual(contents(`${dir}.previous`), { [MODEL]: "mine" });
  }));

test("the manifest has length and checksum of every file, also of those written past the door", () =>
  withFolder((folder) => {
    const dir = join(folder, "a");
    saveFolder(dir, (side) => {
      writeFileDurably(join(side, "one"), "hello");
      writeFileSync(join(side, "two"), "");
    });
    assert.deepEqual(Object.fromEntries(readManifest(dir)?.files ?? []), {
      one: { bytes: 5, sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" },
      two: { bytes: 0, sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    });
  }));

test("a folder that is not ours is not replaced, a file neither; an empty one is", () =>
  withFolder((folder) => {
    const refuses = (name: string, pattern: RegExp, replaced?: "nothing" | "ours or older"): void =>
      assert.throws(
        () => saveFolder(join(folder, name), () => assert.fail("must not begin"), replaced),
        (failure: Error) => {
          assert.ok(failure instanceof UserError);
          assert.match(failure.message, pattern);
          return true;
        },
      );
    put(join(folder, "home"), { "letter.txt": "dear" });
    refuses(
      "home",
      /home: is not replaced, because it holds letter\.txt, and no manifest says that it was saved by this program\. Choose/,
    );
    put(join(folder, "hub"), { [MODEL]: "1", "config.json": "{}" });
    refuses("hub", /hub: is not replaced, because it holds config\.json, and no manifest/, "ours or older");
    put(join(folder, "damaged"), { [MODEL]: "1", [MANIFEST_FILE]: "{" });
    refuses("damaged", /damaged: is not replaced/);
    save(join(folder, "ours"), { [MODEL]: "1" });
    refuses(
      "ours",
      /ours: is not replaced, because it holds .* Choose another folder, or replace this one with overwrite_output_dir/,
      "nothing",
    );
    put(folder, { file: "f" });
    refuses("file", /file: is not replaced, because it is a file \(expected a folder\)/);
    put(join(folder, "mine.partial"), { "half.zip": "download" });
    mkdirSync(join(folder, "deep.partial", "src"), { recursive: true });
    put(folder, { "flat.partial": "f" });
    for (const name of ["mine", "deep", "flat"])
      refuses(name, /\.partial: (holds (half\.zip|src)|is there), which no save wrote.* Move it away/);
    assert.deepEqual(contents(join(folder, "mine.partial")), { "half.zip": "download" });
    for (const below of ["file/a", "file/a/b", "home/letter.txt/c"]) {
      refuses(below, /(file|letter\.txt) is a file \(expected a folder\)\. Choose another folder\.$/);
    }
    assert.deepEqual(contents(join(folder, "home")), { "letter.txt": "dear" });
    mkdirSync(join(folder, "empty"));
    save(join(folder, "empty"), { [MODEL]: "1" });
    assert.deepEqual(contents(join(folder, "empty")), { [MODEL]: "1" });
  }));

test("what a person has in a folder stays when it is replaced, under a name that changes nothing", () =>
  withFolder((folder) => {
    const dir = join(folder, "final");
    save(dir, { "model-00001-of-00002.safetensors": "1", "config.json": "{}", "generation_config.json": "g" });
    put(dir, {
      "README.md": "card",
      "model.safetensors": "other weights",
      "generation_config.json": "edited",
      "new.json": "mine",
    });
    put(join(dir, "plots"), { "loss.svg": "<svg>" });
    symlinkSync("/nowhere", join(dir, "link"));
    const notes = save(dir, { [MODEL]: "2", "config.json": "{}", "generation_config.json": "g", "new.json": "ours" });
    assert.deepEqual(contents(dir), {
      "README.md": "card",
      "config.json": "{}",
      "generation_config.json": "g",
      "generation_config.json.kept": "edited",
      "model.safetensors": "2",
      "model.safetensors.kept": "other weights",
      "new.json": "ours",
      "new.json.kept": "mine",
    });
    assert.equal(readFileSync(join(dir, "plots", "loss.svg"), "utf8"), "<svg>");
    assert.ok(lstatSync(join(dir, "link")).isSymbolicLink());
    assert.equal(notes.length, 6);
    for (const pattern of [
      /README\.md is not of our making; kept$/,
      /generation_config\.json was changed since it was saved; kept as generation_config\.json\.kept$/,
      /model\.safetensors is not of our making; kept as model\.safetensors\.kept$/,
    ]) {
      assert.ok(
        notes.some((note) => pattern.test(note)),
        `${pattern} in ${notes.join("\n")}`,
      );
    }
    save(dir, { [MODEL]: "3", "config.json": "{}" });
    assert.deepEqual(
      [contents(dir)["README.md"], contents(dir)["new.json.kept"], contents(dir)[MODEL]],
      ["card", "mine", "3"],
    );
    assert.equal(contents(dir)["generation_config.json"], undefined, "ours, and unchanged");
  }));

test("a result from before there were manifests keeps a model card too; of a checkpoint, weights that changed are not kept", () =>
  withFolder((folder) => {
    const older = join(folder, "final");
    put(older, {
      [MODEL]: "1",
      "config.json": "{}",
      "revmoe.json": "{}",
      "README.md": "card",
      "tokenizer.json": "edited",
    });
    saveFolder(
      older,
      (side) => put(side, { [MODEL]: "2", "config.json": "{}", "tokenizer.json": "t" }),
      "ours or older",
    );
    assert.deepEqual(contents(older), {
      "README.md": "card",
      "config.json": "{}",
      "model.safetensors": "2",
      "tokenizer.json": "t",
      "tokenizer.json.kept": "edited",
    });
    const checkpoint = join(folder, "checkpoint-1");
    save(checkpoint, { [MODEL]: "1", "trainer_state.json": "{}" });
    put(checkpoint, { [MODEL]: "x", "notes.txt": "n" });
    save(checkpoint, { [MODEL]: "2", "trainer_state.json": "{}" });
    assert.deepEqual(contents(checkpoint), { [MODEL]: "2", "notes.txt": "n", "trainer_state.json": "{}" });
  }));

const CHANGING = ["mkdirSync", "openSync", "writeSync", "fsyncSync", "renameSync", "rmSync", "unlinkSync"] as const;

/** Runs `body` as a process that dies at its `moment`-th call that changes the disk: that call and all later ones fail. Returns whether it died. */
function cutOff(moment: number, body: () => void): boolean {
  let calls = 0;
  const kept = CHANGING.map((name) => [name, fs[name]] as const);
  for (const [name, call] of kept) {
    (fs as unknown as Record<string, unknown>)[name] = (...args: never[]): unknown => {
      if (++calls >= moment) throw new Error("killed");
      return (call as (...all: never[]) => unknown)(...args);
    };
  }
  syncBuiltinESMExports();
  try {
    body();
  } catch (failure) {
    assert.equal((failure as Error).message, "killed");
  } finally {
    for (const [name, call] of kept) (fs as unknown as Record<string, unknown>)[name] = call;
    syncBuiltinESMExports();
  }
  return calls >= moment;
}

test("cut off at any moment, the old or the new folder is complete, and nothing that a person had is gone", () => {
  let moment = 1;
  for (let died = true; died; moment++) {
    withFolder((folder) => {
      const dir = join(folder, "final");
      save(dir, { [MODEL]: "1", "config.json": "1", "generation_config.json": "g" });
      put(dir, { "README.md": "card", "generation_config.json": "edited" });
      put(join(dir, "plots"), { "loss.svg": "<svg>" });
      died = cutOff(moment, () => void save(dir, { [MODEL]: "2", "config.json": "2", "generation_config.json": "g" }));
      settleFolders(folder);
      const after = contents(dir);
      assert.ok(["11", "22"].includes(`${after[MODEL]}${after["config.json"]}`), `moment ${moment}: a mix`);
      assert.ok(existsSync(join(dir, MANIFEST_FILE)), `moment ${moment}: no manifest`);
      assert.equal(after["README.md"], "card", `moment ${moment}`);
      assert.equal(readFileSync(join(dir, "plots", "loss.svg"), "utf8"), "<svg>", `moment ${moment}`);
      assert.ok(Object.values(after).includes("edited"), `moment ${moment}`);
      save(dir, { [MODEL]: "3", "config.json": "3" });
      const { [MODEL]: model, "config.json": config, "README.md": card } = contents(dir);
      assert.deepEqual([model, config, card, readdirSync(folder)], ["3", "3", "card", ["final"]]);
    });
  }
  assert.ok(moment > 20, `${moment} moments`);
});

test("a link to a folder stays a link: the folder it leads to is replaced", () =>
  withFolder((folder) => {
    save(join(folder, "disk", "a"), { [MODEL]: "1" });
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
      save(dir, { [MODEL]: "1" });
      const fill = (): void =>
        void saveFolder(dir, (side) =>
          scope(() =>
            writeSafetensors(join(side, MODEL), [
              { name: "x", dtype: "float32", shape: [2 ** 20], read: () => zeros([2 ** 20], "float32") },
            ]),
          ),
        );
      assert.throws(fill, (failure: Error) => {
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
