// Where things are: the package itself, and the folders with built engines. An engine is built in build/ of the
// package, or in the user's cache if that cannot be written (for instance, because root installed it).
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { SetupError, canWrite } from "./program.mjs";

/** The folder with native/, setup/ and, after a set-up, dist/ and build/. */
export const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));

/** A clone has the sources; an installed package has what was made from them. */
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

/**
 * Where engines may be, the user's own before those of the package; REVMOE_BUILD names one folder that replaces them.
 */
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
