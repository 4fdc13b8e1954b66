// Checksums are those that the standards and git say, by one thread and by several; what cannot be read hides nothing.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { type HashedFile, hashFiles } from "./hash-file.js";
import { withFolder } from "../testing-model.js";

test("known checksums; a missing file and a folder are said, and the others are hashed", () =>
  withFolder((folder) => {
    writeFileSync(join(folder, "abc"), "abc");
    mkdirSync(join(folder, "sub"));
    const files = (["sha256", "git"] as const).map((kind): HashedFile => ({ path: join(folder, "abc"), kind }));
    const [none, sub, sha256, git] = hashFiles([
      { path: join(folder, "none"), kind: "git" },
      { path: join(folder, "sub"), kind: "git" },
      ...files,
    ]);
    assert.match((none as { failure: string }).failure, /ENOENT/);
    assert.match((sub as { failure: string }).failure, /EISDIR/);
    assert.equal(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert.equal(git, "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
  }));

test("several threads give the same", () =>
  withFolder((folder) => {
    const sizes = [5, 170 * 2 ** 20, 0, 120 * 2 ** 20 + 7];
    const files = sizes.map((bytes, i): HashedFile => {
      const path = join(folder, String(i));
      writeFileSync(path, "x");
      truncateSync(path, bytes);
      return { path, kind: "sha256" };
    });
    const expected = sizes.map((bytes) => {
      const content = Buffer.alloc(bytes);
      if (bytes > 0) content[0] = "x".charCodeAt(0);
      return createHash("sha256").update(content).digest("hex");
    });
    const hashes = hashFiles([...files, { path: join(folder, "none"), kind: "sha256" }]);
    assert.deepEqual(hashes.slice(0, 4), expected);
    assert.match((hashes[4] as { failure: string }).failure, /ENOENT/);
  }));
