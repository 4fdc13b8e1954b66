// left-out.json in a run's folder: the batches that a run has left out for good. A run that is resumed at an earlier
// step leaves them out, too.
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { writeFileDurably } from "../../checkpoint/files/disk.js";
import { readJsonObject } from "../../checkpoint/folder.js";
import type { BatchState } from "../../data/batches.js";
import { UserError } from "../../errors.js";

const LEFT_OUT_FILE = "left-out.json";

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** The batches left out; empty if there is no such file. Errors: UserError when it is malformed. */
export function readLeftOut(outputDir: string): BatchState[] {
  const path = join(outputDir, LEFT_OUT_FILE);
  if (!existsSync(path)) return [];
  const { batches } = readJsonObject(path);
  const whole =
    Array.isArray(batches) &&
    batches.every((each: Partial<BatchState> | null) => isCount(each?.epoch) && isCount(each?.position));
  if (!whole)
    throw new UserError(`${path}: "batches" is no list of { epoch, position }. Remove the file to leave no batch out.`);
  return (batches as BatchState[]).map(({ epoch, position }) => ({ epoch, position }));
}

/** Adds batches to the file; it is written durably when this returns. */
export function addLeftOut(outputDir: string, more: BatchState[]): void {
  const path = join(outputDir, LEFT_OUT_FILE);
  mkdirSync(outputDir, { recursive: true });
  writeFileDurably(`${path}.new`, `${JSON.stringify({ batches: [...readLeftOut(outputDir), ...more] }, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

/** For a new run, to which the file of an earlier run in this folder does not apply. */
export const forgetLeftOut = (outputDir: string): void => rmSync(join(outputDir, LEFT_OUT_FILE), { force: true });
