#!/usr/bin/env node
// The executable `revmoe`: connects the command line to this process. A command is loaded only when it is used.
import { readFileSync } from "node:fs";

import { type Program, runCli } from "./cli/program.js";
import { COMMANDS } from "./commands/registry.js";
import { forgetClosedTerminal, openTerminal } from "./metrics/terminal.js";

const program: Program = {
  version: () =>
    (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version,
  commands: COMMANDS,
};

// Node itself prints warnings to these streams; one that cannot be written must not end the process.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

forgetClosedTerminal();
const terminal = openTerminal();
const words = process.argv.slice(2);
process.exitCode = await runCli(program, words, terminal.out, terminal.err);

const lost = terminal.lost();
if (lost !== null) {
  terminal.err.write(`revmoe: stdout could not be written (${lost}): what was printed there is not complete.\n`);
  // The product of training is its folder; that of other commands may be what they print.
  if (words[0] !== "train") process.exitCode ||= 1;
}
