// The registry of commands: each has what --help needs, and asking for help loads no command's work.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { COMMANDS } from "./registry.js";

const DIST = fileURLToPath(new URL("../", import.meta.url));

/** What --help does not load: the work of commands. Registries, whose entries have settings, come with what they register. */
const WORK =
  /^(commands\/((run|dashboard)\/|completion\/print)|dashboard|data\/(?!conversations\/row-kind|sources\/as-text|trained-parts)|hub|upcycle|step|generate|eval|verify|fuzz|library\/(?!generate-settings)|(train|plan)\/(?!settings)|compare\/(?!settings|setting-rows|cases))/;

/** Adds a compiled file and all that it imports statically, by the path below dist/. */
function addImports(file: string, found: Set<string>): void {
  if (found.has(file)) return;
  found.add(file);
  const text = readFileSync(join(DIST, file), "utf8");
  for (const [, path] of text.matchAll(/^(?:import|export)\s(?:[^"';]*?from\s+)?"(\.[^"]+)"/gm))
    addImports(relative(DIST, join(DIST, dirname(file), path)), found);
}

/** What a compiled file loads, itself included. */
function loadedWith(file: string): Set<string> {
  const found = new Set<string>();
  addImports(file, found);
  return found;
}

test("revmoe --help loads no command", () => {
  const names = Object.keys(COMMANDS);
  assert.ok(loadedWith("cli.js").has("commands/registry.js"));
  for (const each of loadedWith("cli.js")) assert.ok(!names.some((name) => each === `commands/${name}.js`), each);
});

test("the --help of a command loads no work", () => {
  for (const file of ["cli.js", ...Object.keys(COMMANDS).map((name) => `commands/${name}.js`)])
    for (const each of loadedWith(file)) assert.doesNotMatch(each, WORK, `${file} loads ${each}`);
});

test("a command is called as it is registered, can be described, and has its work", async () => {
  for (const [name, { about, load }] of Object.entries(COMMANDS)) {
    const command = await load();
    assert.equal(command.name, name);
    assert.match(about, /^[A-Z].*[^.]$/, name);
    assert.ok(command.usage.startsWith(`revmoe ${name}`), name);
    assert.match(command.example, new RegExp(`^(\\S+=\\S+ )?revmoe ${name}\\b`, "m"), name);
    const { positional } = command;
    if (positional?.setting !== undefined) assert.ok(positional.setting in command.settings.rows, name);
    assert.equal(typeof (await command.load()).run, "function", name);
  }
});
