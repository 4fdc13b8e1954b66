// Compiles src/ to dist/ if something changed, and removes from dist/ what has no source any more, so that the test of
// a deleted file cannot run.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { isClone, packageRoot } from "./folders.mjs";
import { SetupError } from "./program.mjs";
import { runWatched } from "./watched.mjs";

/** @param {(line: string) => void} say */
export async function buildTypeScript(say) {
  if (!isClone) return; // installed as a package, which has dist/

  const src = join(packageRoot, "src");
  const dist = join(packageRoot, "dist");
  removeStale(src, dist);
  const stampFile = join(dist, ".sources");
  const stamp = stampOf([
    ...filesOf(src).map((name) => join("src", name)),
    "setup/libtorch.d.mts",
    "setup/setup.d.mts",
    "tsconfig.json",
    "package-lock.json",
  ]);
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  say("typescript: compiling src to dist (some 10 s)");
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const options = [
    "--project",
    packageRoot,
    "--incremental",
    "--tsBuildInfoFile",
    join(dist, ".tsbuildinfo"),
    "--pretty",
    "false",
  ];
  const result = await runWatched([process.execPath, tsc, ...options], { label: "typescript", say, cwd: packageRoot });
  if (result.failed) throw new SetupError(`tsc ended with ${result.how}:\n${result.lines.join("\n")}`);
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

/** Changes with any source's name, size or time, and when a source is removed. @param {string[]} paths */
function stampOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths) {
    const status = statSync(join(packageRoot, path));
    if (status.isFile()) hash.update(`${path} ${status.size} ${status.mtimeMs}\n`);
  }
  return hash.digest("hex");
}
