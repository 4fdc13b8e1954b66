import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { COMMANDS } from "./commands/registry.js";

const cli = fileURLToPath(new URL("./cli.js", import.meta.url));
const packageFile = fileURLToPath(new URL("../package.json", import.meta.url));

test("the executable: exit code and one line on stderr", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, "trian"], { encoding: "utf8" });
  assert.deepEqual(
    [status, stdout, stderr],
    [2, "", `revmoe: "trian" is no command (expected ${Object.keys(COMMANDS).join(", ")}). Did you mean train?\n`],
  );
});

test("the executable: --version is the package's, also through a link to it", {
  skip: !existsSync(packageFile),
}, () => {
  const { version } = JSON.parse(readFileSync(packageFile, "utf8")) as { version: string };
  const { status, stdout } = spawnSync(process.execPath, [cli, "--version"], { encoding: "utf8" });
  assert.deepEqual([status, stdout], [0, `${version}\n`]);
});

test("the executable: a reader that went away is no crash", { skip: !existsSync(packageFile) }, () => {
  // The pipe's reading end is closed before node has started; the shell reports node's own exit code on its stderr.
  const shell = `{ "$0" "$1" --version; echo "code $?" >&2; } | true`;
  const { stderr } = spawnSync("sh", ["-c", shell, process.execPath, cli], { encoding: "utf8" });
  assert.equal(stderr, "code 0\n");
});

test("the executable: a misspelt --version or --help is told from a setting", () => {
  for (const [word, meant] of [
    ["--versoin", "--version"],
    ["--hlep", "--help"],
    ["--Version", "--version"],
  ]) {
    const { status, stderr } = spawnSync(process.execPath, [cli, word], { encoding: "utf8" });
    assert.deepEqual([status, stderr], [2, `revmoe: ${word} is unknown. Did you mean ${meant}?\n`]);
  }
});
