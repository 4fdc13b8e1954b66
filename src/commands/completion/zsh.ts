// The script for zsh: a file _revmoe on fpath, by zsh's own _arguments.
import { quotedFor, type TypedCommand, type TypedFlag, type Values } from "./words.js";

export function zshScript(commands: readonly TypedCommand[]): string {
  const described = commands.map(({ name, about }) => `    ${quoted(`${name}:${about.replaceAll(":", "\\:")}`)}`);
  return `#compdef revmoe
# Completion of revmoe for zsh, made by: revmoe completion zsh
_revmoe() {
  local -a commands=(
${described.join("\n")}
  )
  local curcontext=$curcontext state line
  _arguments -C '--help[what there is]' '--version[print the version]' '1: :->command' '*:: :->words'
  case $state in
    command) _describe -t commands command commands ;;
    words)
      case $words[1] in
${commands.map(commandCase).join("\n")}
      esac ;;
  esac
}
if [[ $funcstack[1] == _revmoe ]]; then _revmoe "$@"; else compdef _revmoe revmoe; fi
`;
}

function commandCase({ name, flags, alone, passesOn }: TypedCommand): string {
  // Words that are passed on are completed as a command line of their own.
  const rest = passesOn
    ? ["'*:: :{words=(revmoe $words); ((CURRENT++)); _revmoe}'"]
    : alone === null
      ? []
      : [quoted(`*: :${action(alone)}`)];
  const specs = [...flags.map((each) => quoted(specOf(each))), ...rest];
  return [
    `        ${name}) _arguments -s \\`,
    ...specs.map((spec, i) => `          ${spec}${i < specs.length - 1 ? " \\" : " ;;"}`),
  ].join("\n");
}

function specOf({ flag, about, values }: TypedFlag): string {
  const words = about.replaceAll(/[[\]\\:]/g, "\\$&");
  return values === null ? `${flag}[${words}]` : `${flag}=[${words}]: :${action(values)}`;
}

function action(values: Values): string {
  if (values?.kind === "choices") return `(${values.choices.join(" ")})`;
  return values?.kind === "files" ? "_files" : " ";
}

const quoted = (text: string): string => quotedFor(text, "'\\''");
