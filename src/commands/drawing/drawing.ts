// The drawing that `--svg FILE` asks for. Its place is checked before hours of work, and written after them. Until then
// an older drawing stays; a file that is not a drawing is never replaced.
import { accessSync, constants, existsSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { reasonOf } from "../../checkpoint/files/disk.js";
import { UserError } from "../../errors.js";

/** Errors: UserError for a place where a drawing cannot or must not be written. Writes nothing. */
export function checkDrawing(path: string): void {
  trying(path, () => {
    if (!existsSync(path)) return accessSync(dirname(path), constants.W_OK | constants.X_OK);
    if (statSync(path).isDirectory())
      throw new UserError(`svg: ${path} is a folder (expected a file). Choose another path.`);
    if (!/\.svg$/i.test(path))
      throw new UserError(`svg: ${path} exists and is no .svg file, so it stays. Choose another path.`);
    accessSync(path, constants.W_OK);
  });
}

/** Errors: UserError. */
export const writeDrawing = (path: string, text: string): void => trying(path, () => writeFileSync(path, text));

function trying(path: string, action: () => void): void {
  try {
    action();
  } catch (failure) {
    throw failure instanceof UserError
      ? failure
      : new UserError(`svg: ${path} cannot be written: ${reasonOf(failure)}. Choose another path.`);
  }
}
