// The registry of commands: each has what --help needs, and asking for help loads words and settings, never the library.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { COMMANDS } from "./registry.js";

const DIST = fileURLToPath(new URL("../", import.meta.url));

/** All that --help may load: words, settings, and names. What a command does is behind its `load`. */
const LIGHT =
  /^(cli|errors|format|read-file|cli\/.*|commands\/[^/]+|settings\/.*|metrics\/.*|train\/settings\/.*|plan\/settings|compare\/(settings|cases)|model\/config|reversible\/couplings\/gamma)\.js$/;

/** Adds a compiled file and all that it imports statically, by the path below dist/. */
function addImports(file: string, found: Set<string>): void {
  if (found.has(file)) return;
  found.add(file);
  const text = readFileSync(join(DIST, file), "utf8");
  for (const [, path] of text.matchAll(/^(?:import|export)\s(?:[^"';]*?from\s+)?"(\.[^"]+)"/gm))
    addImports(relative(DIST, join(DIST, dirname(file), path)), found);
}

test("--help loads words and settings only", () => {
  for (const file of ["cli.js", ...Object.keys(COMMANDS).map((name) => `commands/${name}.js`)]) {
    const found = new Set<string>();
    addImports(file, found);
    for (const each of found) assert.match(each, LIGHT, `${file} loads ${each}`);
  }
});

test("a command is called as it is registered, can be described, and has its work", async () => {
  for (const [name, load] of Object.entries(COMMANDS)) {
    const command = await load();
    assert.equal(command.name, name);
    assert.match(command.about, /^\S.*[^.]$/, name);
    assert.ok(command.usage.startsWith(`revmoe ${name}`), name);
    assert.match(command.example, new RegExp(`^(\\S+=\\S+ )?revmoe ${name}\\b`, "m"), name);
    const { positional } = command;
    if (positional?.setting !== undefined) assert.ok(positional.setting in command.settings.rows, name);
    assert.equal(typeof (await command.load()).run, "function", name);
  }
});
