// What the scripts of this folder have in common when they are run by themselves: a failure that the person can mend is
// shown in one line, anything else with its stack; the exit code is 1 for both.
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { SetupError } from "./libtorch.mjs";

/** Whether the module of this URL is what node was started with, and not imported. @param {string} url */
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
