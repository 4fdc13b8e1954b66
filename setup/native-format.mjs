// Checks the format of native/ with clang-format; `--write` corrects it. Versions of clang-format format differently,
// so if there is none, or not Debian 12's, this says so and checks nothing. Exit code 1 if the format is wrong.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";

import { packageRoot } from "./folders.mjs";
import { SetupError, runAsProgram } from "./program.mjs";

const expected = "14";

await runAsProgram(async () => {
  const program = process.env.CLANG_FORMAT || "clang-format";
  const { stdout, error } = spawnSync(program, ["--version"], { encoding: "utf8" });
  const version = error ? null : (/version (\d+)/.exec(stdout)?.[1] ?? "of an unknown version");
  if (version !== expected) {
    const found = version === null ? `${program} is not installed` : `${program} is ${version}`;
    console.log(`native: ${found} (expected ${expected}), so its format is not looked at`);
    return;
  }
  const folder = join(packageRoot, "native");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /\.(h|[ch]pp)$/.test(name));
  const write = process.argv.includes("--write");
  const how = write ? ["-i"] : ["--dry-run", "--Werror"];
  const { status, stderr } = spawnSync(program, [...how, ...files], { cwd: folder, encoding: "utf8" });
  if (status !== 0) {
    throw new SetupError(`native: the format is another:\n${stderr.trim()}\nRun: npm run check:native -- --write`);
  }
  console.log(`native: ${files.length} files ${write ? "have their format" : "formatted"}`);
});
