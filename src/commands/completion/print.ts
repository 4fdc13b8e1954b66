// `revmoe completion`: gathers what can be typed from the registry of commands and their tables, and prints it as a
// shell's script.
import type { ROWS } from "../completion.js";
import type { CommandInput } from "../command.js";
import { COMMANDS } from "../registry.js";
import { bashScript } from "./bash.js";
import { fishScript } from "./fish.js";
import { type TypedCommand, typedCommand } from "./words.js";
import { zshScript } from "./zsh.js";

const SCRIPTS: Readonly<Record<"bash" | "zsh" | "fish", (commands: readonly TypedCommand[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

export async function run({ settings, out }: CommandInput<typeof ROWS>): Promise<number> {
  const commands: TypedCommand[] = [];
  for (const { about, load } of Object.values(COMMANDS)) commands.push(typedCommand(about, await load()));
  out.write(SCRIPTS[settings.shell](commands));
  return 0;
}
