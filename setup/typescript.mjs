// Compiles src/ to dist/ where something changed, and takes out of dist/ what has no source any more, so that the test
// of a file that is gone cannot run.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { SetupError, packageRoot } from "./libtorch.mjs";

/** @param {(line: string) => void} say */
export function buildTypeScript(say) {
  const src = join(packageRoot, "src");
  const dist = join(packageRoot, "dist");
  if (!existsSync(src)) return; // installed as a package, with dist/ in it
  removeStale(src, dist);
  const stampFile = join(dist, ".sources");
  const stamp = stampOf([...filesOf(src).map((name) => join("src", name)), "setup/libtorch.d.mts", "tsconfig.json", "package-lock.json"]);
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  say("typescript: compiling src to dist");
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const options = ["--project", packageRoot, "--incremental", "--tsBuildInfoFile", join(dist, ".tsbuildinfo"), "--pretty", "false"];
  const result = spawnSync(process.execPath, [tsc, ...options], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    cwd: packageRoot,
  });
  if (result.status !== 0) throw new SetupError(`tsc found errors in src:\n${(result.stdout + result.stderr).trimEnd()}`);
  writeFileSync(stampFile, stamp);
}

/** Paths below `folder`, sorted. @param {string} folder */
export function filesOf(folder) {
  return existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }).sort() : [];
}

/** @param {string} src @param {string} dist */
function removeStale(src, dist) {
  for (const name of filesOf(dist)) {
    const stem = /^(.*?)(\.d\.ts|\.js)(\.map)?$/.exec(name)?.[1];
    if (stem !== undefined && !existsSync(join(src, `${stem}.ts`))) rmSync(join(dist, name));
  }
}

/** Changes with any source's name, size or time, also when one is removed. @param {string[]} paths */
function stampOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    const status = statSync(join(packageRoot, path));
    if (status.isFile()) hash.update(`${path} ${status.size} ${status.mtimeMs}\n`);
  }
  return hash.digest("hex");
}
