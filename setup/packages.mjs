// The npm packages of a clone: those of package-lock.json, in their versions. In an installed package, npm has
// installed them.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { packageRoot } from "./folders.mjs";
import { SetupError, canWrite, onPath } from "./program.mjs";
import { runWatched } from "./watched.mjs";

/** Installs what is missing or has another version. @param {(line: string) => void} say */
export async function havePackages(say) {
  const wrong = wrongPackages();
  if (wrong.length === 0) return;
  if (!onPath("npm"))
    throw new SetupError("npm: no such program on PATH. It comes with Node.js: https://nodejs.org/en/download");
  if (!canWrite(join(packageRoot, "node_modules"))) {
    throw new SetupError(
      `${packageRoot}: npm packages are missing and cannot be installed there (not writable). Use a clone of your own.`,
    );
  }
  const env = { ...process.env };
  const cache = spawnSync("npm", ["config", "get", "cache"], { encoding: "utf8", cwd: packageRoot }).stdout.trim();
  if (cache && ![cache, join(cache, "_cacache")].every(canWrite)) {
    env.npm_config_cache = join(packageRoot, "build/npm-cache");
    say(`npm: its cache ${cache} cannot be written; build/npm-cache takes its place`);
  }
  say(`npm: ${wrong.length} package(s) missing or of another version: npm ci (150 MB on disk)`);
  // Development packages include the TypeScript compiler, so they are needed even if NODE_ENV says production. The lock
  // file has checksums, so npm need not ask again about what its cache has.
  const words = ["npm", "ci", "--include=dev", "--prefer-offline", "--no-audit", "--no-fund"];
  const npm = await runWatched(words, { label: "npm ci", say, cwd: packageRoot, env });
  if (!npm.failed) return;
  const offline = /EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|ENETUNREACH/.test(npm.lines.join());
  const remedy = offline
    ? "The registry could not be reached: connect and try again, or copy node_modules here from a machine that has it."
    : "Mend that, and try again.";
  throw new SetupError(`npm ci ended with ${npm.how}:\n${npm.lines.slice(-12).join("\n")}\n${remedy}`);
}

/** Paths of the packages that are missing or differ from the lock file's version; none in an installed package. */
export function wrongPackages() {
  const lockFile = join(packageRoot, "package-lock.json");
  if (!existsSync(lockFile)) return [];
  /** @type {Record<string, { version?: string, optional?: boolean }>} */
  const wanted = JSON.parse(readFileSync(lockFile, "utf8")).packages;
  return Object.keys(wanted).filter((path) => {
    if (path === "") return false;
    const file = join(packageRoot, path, "package.json");
    return existsSync(file)
      ? JSON.parse(readFileSync(file, "utf8")).version !== wanted[path].version
      : !wanted[path].optional;
  });
}
