// Finds, without the command line, what keeps it from starting: before a set-up there are neither npm packages nor
// compiled TypeScript. `doctor` is then answered from here.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { installLine } from "./apt.mjs";
import { compiler } from "./build.mjs";
import { isClone, packageRoot, setUpCommand } from "./folders.mjs";
import { searchLibtorch, sourceName, waysToGetLibtorch } from "./libtorch.mjs";
import { onPath } from "./program.mjs";

/** What is missing and how to get it; undefined if the command line can start. */
export function whyNotReady() {
  const { dependencies } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));
  const places = createRequire(import.meta.url);
  const missing = Object.keys(dependencies).filter(
    (name) => !places.resolve.paths(name)?.some((folder) => existsSync(join(folder, name))),
  );
  const remedy = isClone ? setUpCommand : "npm install";
  if (missing.length > 0) return { problem: `npm packages are missing (${missing.join(", ")})`, remedy };
  if (existsSync(join(packageRoot, "dist/cli.js"))) return undefined;
  return { problem: isClone ? "src/ is not compiled to dist/ yet" : "the package holds no dist/", remedy };
}

/** What `revmoe doctor` says before a set-up. @param {{ problem: string, remedy: string }} notReady */
export function reportBefore({ problem, remedy }) {
  const [libtorch, advice] = libtorchRow();
  const hasCompiler = onPath(compiler()[0]);
  const rows = [
    ["Node.js", process.versions.node],
    ["libtorch", libtorch],
    ["compiler", hasCompiler ? compiler().join(" ") : `${compiler()[0]} is missing; ${installLine(["g++"])}`],
    ["npm", onPath("npm") ? "here" : "missing; it comes with Node.js: https://nodejs.org/en/download"],
  ];
  const lines = rows.map(([label, text]) => `${label.padEnd(8)}  ${text}`);
  return [...lines, "", `- not set up yet: ${problem}`, `  remedy: ${remedy}${advice}`].join("\n");
}

/** What was found, and what to add to the remedy. */
function libtorchRow() {
  try {
    const found = searchLibtorch();
    if (found) return [`${found.version} from ${sourceName(found.source)} (${found.root})`, ""];
    return ["none found", `; it gets libtorch where it may, or you do:\n${waysToGetLibtorch()}`];
  } catch (failure) {
    return [/** @type {Error} */ (failure).message, ""];
  }
}
