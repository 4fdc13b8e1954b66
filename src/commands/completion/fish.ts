// The script for fish: a line for each command and each of its flags.
import { quotedFor, type TypedCommand, type TypedFlag, type Values } from "./words.js";

export function fishScript(commands: readonly TypedCommand[]): string {
  const names = commands.map(({ name }) => name).join(" ");
  return `# Completion of revmoe for fish, made by: revmoe completion fish
function __revmoe_in --description 'Whether the words so far are of this command: the last that is named, behind those that hand words on'
    set -l found
    for word in (commandline -opc)[2..-1]
        contains -- $word ${names}; or continue
        set found $word
        contains -- $word ${
          commands
            .filter(({ passesOn }) => passesOn)
            .map(({ name }) => name)
            .join(" ") || "-"
        }; or break
    end
    test "$found" = "$argv[1]"
end
complete -c revmoe -f
complete -c revmoe -n '__revmoe_in ""' -l help -d 'what there is'
complete -c revmoe -n '__revmoe_in ""' -l version -d 'print the version'
${commands.map(({ name, about }) => `complete -c revmoe -n '__revmoe_in ""' -a ${name} -d ${quoted(about)}`).join("\n")}
${commands.flatMap((command) => linesOf(command, names)).join("\n")}
`;
}

function linesOf({ name, flags, alone, passesOn }: TypedCommand, names: string): string[] {
  const start = `complete -c revmoe -n '__revmoe_in ${name}'`;
  return [
    ...flags.map(
      ({ flag, about, values }: TypedFlag) => `${start} -l ${flag.slice(2)}${option(values)} -d ${quoted(about)}`,
    ),
    ...(passesOn ? [`${start} -a ${quoted(names)}`] : []),
    ...(alone?.kind === "files" ? [`${start} -F`] : []),
    ...(alone?.kind === "choices" ? [`${start} -a ${quoted(alone.choices.join(" "))}`] : []),
  ];
}

function option(values: Values): string {
  if (values === null) return "";
  if (values.kind === "choices") return ` -x -a ${quoted(values.choices.join(" "))}`;
  return values.kind === "files" ? " -r -F" : " -x";
}

const quoted = (text: string): string => quotedFor(text.replaceAll("\\", "\\\\"), "\\'");
