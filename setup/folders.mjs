// Where things are: the package itself, and the folders that hold built engines. An engine is built in build/ of the
// package; where that cannot be written (installed by root, say), in the person's cache.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { SetupError, canWrite } from "./program.mjs";

/** The folder that holds native/, setup/ and, after a set-up, dist/ and build/. */
export const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));

/** A clone holds the sources; an installed package holds what was made of them. */
export const isClone = existsSync(join(packageRoot, "src"));

/** What the person types to set up. */
export const setUpCommand = isClone ? "npm run setup" : "npx revmoe setup";

/** Where a set-up writes. */
export function buildFolder() {
  const inPackage = join(packageRoot, "build");
  if (canWrite(inPackage)) return inPackage;
  const cache = cachedEngines();
  if (canWrite(cache)) return cache;
  throw new SetupError(`neither ${inPackage} nor ${cache} can be written. Set REVMOE_CACHE to a folder that can be.`);
}

/** Where engines may be, the person's own before that of the package; REVMOE_BUILD names one folder in their place. */
export function buildFolders() {
  if (process.env.REVMOE_BUILD) return [process.env.REVMOE_BUILD];
  const inPackage = join(packageRoot, "build");
  return canWrite(inPackage) ? [inPackage] : [cachedEngines(), inPackage];
}

// src/hub/names.ts has the same rule for models.
function cachedEngines() {
  const { REVMOE_CACHE, XDG_CACHE_HOME } = process.env;
  const cache = resolve(REVMOE_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "revmoe"));
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));
  return join(cache, "engine", version);
}
