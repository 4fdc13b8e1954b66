// Below the commands, messages name settings and no flags: a program has none. What stands in a command line of `revmoe` is one to copy.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "./errors.js";
import { plan, train } from "./index.js";

const SRC = fileURLToPath(new URL("../src/", import.meta.url));
/** Those that speak on a command line, and flags of other programs. */
const FOLDERS_WITH_FLAGS = ["commands/", "cli/", "fuzz/"];
const FILES_WITH_FLAGS: Record<string, string> = {
  "docs.ts": "writes about flags",
  "settings/resolve.ts": "speaks of those that were given",
  "torch/kernels/nvrtc.ts": "NVRTC's",
  "plan/ways/machine.ts": "nvidia-smi's",
  "plan/words.ts": "writes the command line of a way",
  "data/formats/json.ts": "counts down",
};

/** Flags in the strings of code: neither in comments nor behind `revmoe` in the same string. */
export function flagsIn(code: string): string[] {
  const lines = code.split("\n").filter((line) => !/^\s*(\/\/|\/\*|\*)/.test(line));
  return lines.flatMap((line) =>
    [...line.matchAll(/["'`][^"'`]*?--[a-z]/g)].flatMap(([text]) => (/revmoe[ $]/.test(text) ? [] : [line.trim()])),
  );
}

test("no message below the commands speaks of flags", () => {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter(
    (name) =>
      name.endsWith(".ts") &&
      !/\.test\.ts$|(^|\/)testing-/.test(name) &&
      !FOLDERS_WITH_FLAGS.some((folder) => name.startsWith(folder)) &&
      !(name in FILES_WITH_FLAGS),
  );
  assert.ok(files.length > 300);
  const found = files.flatMap((name) =>
    flagsIn(readFileSync(join(SRC, name), "utf8")).map((line) => `${name}: ${line}`),
  );
  assert.deepEqual(found, []);
  assert.equal(
    flagsIn('throw new UserError(`x: no. Use --parameters disk.`);\nsay("see: revmoe plan --fit");').length,
    1,
  );
});

test("a program is told of the names that it gave", async () => {
  const given = { model: "m", train_file: "rows.jsonl", output_dir: "out" };
  const messageOf = async (call: () => unknown): Promise<string> => {
    try {
      await call();
    } catch (failure) {
      assert.ok(failure instanceof UserError, String(failure));
      return failure.message;
    }
    throw new Error("nothing was refused");
  };
  for (const [settings, says] of [
    [{ ...given, gamma: 0.3 }, /^gamma 0\.3 is not possible/],
    [{ ...given, coupling: "additive", gamma: 0.5 }, /^gamma 0\.5 has no effect: .* not coupling additive\./],
    [{ ...given, packing: false, learning_rat: 1 }, /^learning_rat is unknown\. Did you mean learning_rate\?/],
    [{ output_dir: "out", train_file: "x" }, /^model is missing .*\. Give it\.$/],
  ] as const)
    assert.match(await messageOf(() => train(settings as never).result), says);
  assert.match(await messageOf(() => plan({ model: "m", memory: "0GiB" })), /^memory 0GiB leaves no room/);
});
