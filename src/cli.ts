#!/usr/bin/env node
// The executable `revmoe`: ties the command line to this process. The table of commands is here; each is loaded only
// when it is asked for.
import { readFileSync } from "node:fs";

import { type Program, runCli } from "./cli-run.js";
import type { Command } from "./commands/command.js";

const COMMANDS = ["train", "plan", "bench", "generate", "eval", "export", "upcycle", "verify", "setup", "doctor", "quickstart"] as const;

const program: Program = {
  version: () => (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version,
  commands: Object.fromEntries(COMMANDS.map((name) => [name, () => loadCommand(name)])),
};

async function loadCommand(name: string): Promise<Command> {
  const module = (await import(new URL(`./commands/${name}.js`, import.meta.url).href)) as { command: Command };
  return module.command;
}

// A reader that goes away (`revmoe train ... | head`) is no reason to lose a run: what cannot be written is dropped.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (failure: NodeJS.ErrnoException) => {
    if (failure.code !== "EPIPE" && failure.code !== "ERR_STREAM_DESTROYED") throw failure;
  });
}

// No process.exit: output still on its way to a pipe would be cut off.
process.exitCode = await runCli(program, process.argv.slice(2), process.stdout, process.stderr);
