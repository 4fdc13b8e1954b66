// What a save writes into a checkpoint or a result, by name: anything else there is the person's. Reads names only.
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { OPTIMIZER_FILE, STATE_FILE } from "./checkpoints.js";
import { COPIED_FILES } from "./save.js";

const SAVED = new Set(["config.json", "revmoe.json", "manifest.json", STATE_FILE, OPTIMIZER_FILE, ...COPIED_FILES]);
const WEIGHTS = /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;

/** The path of something in the saved folder `dir`, or `dir` itself, that no save made; undefined when all is of our making. */
export function foreignFile(dir: string): string | undefined {
  // A link is the person's, but what it leads to stays.
  if (lstatSync(dir).isSymbolicLink()) return undefined;
  if (!lstatSync(dir).isDirectory()) return dir;
  const entry = readdirSync(dir, { withFileTypes: true }).find(
    (each) => each.isDirectory() || !(SAVED.has(each.name) || WEIGHTS.test(each.name)),
  );
  return entry && join(dir, entry.name);
}
