// The command line as a function: words in, text and an exit code out. Finds the command, gives help, turns a UserError
// into one line and exit code 2, and any other error into a stack and exit code 1. Owns no stream.
import { ownWords, parseFlags } from "./flags.js";
import type { Command } from "../commands/command.js";
import type { RegisteredCommand } from "../commands/registry.js";
import { nearestName, RankLostError, UserError } from "../errors.js";
import { cutText, visibleText } from "../format.js";
import { systemFailure } from "../read-file.js";
import type { Output } from "../metrics/output.js";
import { flagLines, helpText } from "../settings/help.js";
import { resolveTable } from "../settings/resolve.js";

export interface Program {
  version(): string;
  commands: Readonly<Record<string, RegisteredCommand>>;
}

/** Runs `revmoe WORDS...`; never throws. */
export async function runCli(program: Program, words: readonly string[], out: Output, err: Output): Promise<number> {
  try {
    return await dispatch(program, words, out, err);
  } catch (failure) {
    const refusal = failure instanceof UserError ? failure : systemFailure(failure);
    if (refusal) {
      err.write(`revmoe: ${printable(refusal.message.replaceAll(/\s*\n\s*/g, " "))}\n`);
      return refusal instanceof RankLostError ? RankLostError.exitCode : 2;
    }
    err.write(`${printable(failure instanceof Error ? (failure.stack ?? failure.message) : String(failure))}\n`);
    return 1;
  }
}

/** Errors quote names and excerpts from files and answers that nobody has checked. */
const printable = (message: string): string => visibleText(cutText(message));

async function dispatch(program: Program, words: readonly string[], out: Output, err: Output): Promise<number> {
  const [first, ...rest] = words;
  if (first === undefined) {
    err.write(programHelp(program));
    return 2;
  }
  if (first === "--version" || first === "-v") {
    out.write(`${program.version()}\n`);
    return 0;
  }
  if (first === "--help" || first === "-h" || (first === "help" && rest.length === 0)) {
    out.write(programHelp(program));
    return 0;
  }
  if (first === "help") {
    const { about, load } = registered(program, rest[0]);
    out.write(commandHelp(about, await load()));
    return 0;
  }
  const found = registered(program, first);
  const command = await found.load();
  const { own, passed } = ownWords(command, rest);
  // Help comes before any complaint: a person who asks for it may have typed the rest wrongly.
  const end = own.indexOf("--");
  if (own.slice(0, end < 0 ? undefined : end).some((word) => word === "--help" || word === "-h")) {
    out.write(commandHelp(found.about, command));
    return 0;
  }
  const { flags, file, json } = parseFlags(command, own);
  const { settings, given } = resolveTable(command.settings, { flags, file });
  const { run } = await command.load();
  return run({ settings, given, json, passed, out, err });
}

function registered({ commands }: Program, name: string): RegisteredCommand {
  if (Object.hasOwn(commands, name)) return commands[name];
  const known = Object.keys(commands);
  const flag = nearestName(name, ["--version", "--help"]);
  if (name.startsWith("--") && flag) throw new UserError(`${name} is unknown. Did you mean ${flag}?`);
  if (name.startsWith("-"))
    throw new UserError(`${name} stands before a command (expected revmoe COMMAND ${name} ...). See: revmoe --help`);
  const near = nearestName(name, known);
  const hint = near === undefined ? "See: revmoe --help" : `Did you mean ${near}?`;
  throw new UserError(`"${name}" is no command (expected ${known.join(", ")}). ${hint}`);
}

function programHelp(program: Program): string {
  return [
    `revmoe ${program.version()}: fine-tune all parameters of Mixture-of-Experts language models, on one machine or several`,
    "",
    "Usage: revmoe COMMAND [...]",
    "",
    ...Object.entries(program.commands).map(([name, { about }]) => flagLines(name, about)),
    "",
    flagLines("--version", "print the version"),
    flagLines("COMMAND --help", "what a command does, its settings and an example"),
    "",
  ].join("\n");
}

/** What `revmoe COMMAND --help` prints. */
function commandHelp(about: string, command: Command): string {
  const positional = command.positional ?? command.passesOn;
  const common = [
    ...(command.json === true
      ? [flagLines("--json", command.jsonAbout ?? "print one JSON document for machines")]
      : []),
    flagLines("--help", "print this"),
  ];
  const sections = [
    `revmoe ${command.name}: ${about}`,
    `Usage: ${command.usage}`,
    ...(positional === undefined ? [] : [flagLines(positional.label, positional.about)]),
    ["Example:", ...command.example.split("\n").map((line) => `  ${line}`)].join("\n"),
    ...(Object.keys(command.settings.rows).length === 0 ? [] : [helpText(command.settings)]),
    ["For every command", ...common].join("\n"),
  ];
  return `${sections.join("\n\n")}\n`;
}
