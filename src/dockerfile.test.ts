// The Dockerfile, read: a linter has nothing to say, bases are pinned, nothing runs as root, and what is copied is there and is sent.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { type Copy, DockerfileParser } from "dockerfile-ast";
import { validate, ValidationSeverity } from "dockerfile-utils";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const text = readFileSync(join(ROOT, "Dockerfile"), "utf8");
const file = DockerfileParser.parse(text);
const ignored = readFileSync(join(ROOT, ".dockerignore"), "utf8").split("\n");

test("the linter finds nothing, and finds what is wrong", () => {
  const rules = {
    deprecatedMaintainer: ValidationSeverity.ERROR,
    instructionWorkdirRelative: ValidationSeverity.ERROR,
  };
  assert.deepEqual(validate(text, rules), []);
  for (const wrong of [
    text.replace("USER 1000", "USR 1000"),
    text.replace("WORKDIR /work", "WORKDIR work"),
    "RUN true\n",
  ])
    assert.notDeepEqual(validate(wrong, rules), []);
});

test("bases are pinned by tag, or are stages", () => {
  const stages = new Set<string>();
  for (const from of file.getFROMs()) {
    const [image, tag] = [String(from.getImage()), from.getImageTag()];
    assert.ok(stages.has(image) || (tag !== null && /^\d+\.\d+\.\d+-/.test(tag)), image);
    stages.add(String(from.getBuildStage()));
  }
  for (const name of ["cpu", "cuda"]) assert.ok(stages.has(name), name);
  assert.equal(file.getFROMs().at(-1)?.getBuildStage(), "cpu", "what is built unless another is asked for");
});

test("what runs is no root's, and starts the program", () => {
  const stages = text.split(/^FROM /m).filter((stage) => /^\S+ AS (cpu|cuda)$/m.test(stage));
  assert.equal(stages.length, 2);
  for (const stage of stages) {
    const [user, entry] = [stage.lastIndexOf("\nUSER 1000\n"), stage.indexOf('\nENTRYPOINT ["revmoe"]\n')];
    assert.ok(user > 0 && user < entry, stage);
    assert.doesNotMatch(stage.slice(user + 1), /^(RUN|COPY|USER root)/m);
  }
});

test("what is copied from here is there, and is sent", () => {
  const copies = file.getCOPYs().filter((copy: Copy) => copy.getFromFlag() === null);
  const sources = copies.flatMap((copy) => copy.getArguments().map(String).slice(0, -1));
  assert.ok(sources.length > 8);
  const { files } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { files: string[] };
  const folders = files.filter(
    (name) => /^\w+$/.test(name) && existsSync(join(ROOT, name)) && !["dist", "docs"].includes(name),
  );
  assert.ok(folders.includes("page"));
  for (const folder of folders) assert.ok(sources.includes(folder), `a program needs ${folder}`);
  for (const source of sources) {
    assert.ok(existsSync(join(ROOT, source)), source);
    assert.ok(ignored.includes(`!${source}`), `.dockerignore lets ${source} through`);
  }
  assert.deepEqual(
    ignored
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1))
      .sort(),
    [...sources].sort(),
  );
});
