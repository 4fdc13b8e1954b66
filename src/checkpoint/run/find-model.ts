// Which folder of a run holds its model. A folder with weights is a model itself; a run's folder holds final/, its
// result, and checkpoint-N. Reads names only.
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../../errors.js";
import { statOf } from "../../read-file.js";
import { latestCheckpoint } from "./checkpoints.js";
import { INDEX_FILE, SINGLE_FILE } from "../folder.js";

export interface FoundModel {
  folder: string;
  /** The run's folder, if that was given. */
  run?: string;
  /** A newer checkpoint than `folder`, if `folder` is the result of an earlier end of the run. */
  newer?: string;
}

const CONFIG = "config.json";
const hasWeights = (dir: string): boolean => existsSync(join(dir, SINGLE_FILE)) || existsSync(join(dir, INDEX_FILE));

/** The model at `path`: the folder itself, or a run's final/, or else its newest complete checkpoint. */
export function findModel(path: string): FoundModel {
  // The reader of this path says what is wrong with it.
  if (statOf(path)?.isDirectory() !== true) return { folder: path };
  const final = join(path, "final");
  if (hasWeights(path)) return { folder: path };
  const checkpoint = latestCheckpoint(path);
  if (hasWeights(final))
    return { folder: final, run: path, newer: checkpoint && isNewer(checkpoint, final) ? checkpoint : undefined };
  if (checkpoint) return { folder: checkpoint, run: path };
  // The reader says what else a folder lacks. Only a run's folder can be recognized here.
  if (existsSync(join(path, "metrics.jsonl"))) {
    throw new UserError(
      `${path}: this run has no final/ and no complete checkpoint-N yet. Let it train to its first checkpoint.`,
    );
  }
  return { folder: path };
}

const isNewer = (a: string, b: string): boolean =>
  statSync(join(a, CONFIG)).mtimeMs > statSync(join(b, CONFIG)).mtimeMs;
