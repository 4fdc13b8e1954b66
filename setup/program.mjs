// What the scripts of this folder share: a failure that the user can fix is one sentence without a stack, any other
// failure has its stack, and the exit code is 1 for both. Node built-ins only.
import { accessSync, constants, existsSync, realpathSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** A failure that the user can fix: shown without a stack. */
export class SetupError extends Error {
  name = "SetupError";
}

/** Whether node was started with the module of this URL, so that it is not imported. @param {string} url */
export function isProgram(url) {
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(url);
}

/** @param {() => Promise<void>} work */
export async function runAsProgram(work) {
  try {
    await work();
  } catch (failure) {
    console.error(failure instanceof SetupError ? `setup: ${failure.message}` : failure);
    process.exitCode = 1;
  }
}

const oldestNode = "20.17";

/** Throws a SetupError if this Node.js is too old. */
export function checkNode(version = process.versions.node) {
  const [major, minor] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = oldestNode.split(".").map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new SetupError(
    `Node.js ${version} is too old (expected ${oldestNode} or newer). See https://nodejs.org/en/download`,
  );
}

/** Whether a program of this name or path can be started. @param {string} program */
export function onPath(program, path = process.env.PATH ?? "") {
  if (program.includes("/")) return existsSync(program);
  return path.split(delimiter).some((folder) => allows(join(folder, program), constants.X_OK));
}

/** Whether files can be made at this path, or else in the nearest folder above it that exists. @param {string} path */
export function canWrite(path) {
  let folder = path;
  while (!existsSync(folder) && folder !== join(folder, "..")) folder = join(folder, "..");
  return allows(folder, constants.W_OK);
}

/** @param {string} path @param {number} mode */
function allows(path, mode) {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
