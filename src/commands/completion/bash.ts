// The script for bash: one function that finds the command and the flag before the cursor, and offers what may follow.
import type { TypedCommand, Values } from "./words.js";

export function bashScript(commands: readonly TypedCommand[]): string {
  const names = commands.map(({ name }) => name);
  const passing = commands.filter(({ passesOn }) => passesOn).map(({ name }) => name);
  const flagCases = commands.map(({ name, flags }) => `    ${name}) flags=${words(flags.map(({ flag }) => flag))} ;;`);
  const valueCases = commands.flatMap(({ name, flags }) =>
    flags.filter(({ values }) => values !== null).map(({ flag, values }) => `    ${name}:${flag}) ${offer(values)} ;;`),
  );
  const aloneCases = commands
    .filter(({ alone }) => alone !== null)
    .map(({ name, alone }) => `    ${name}) ${offer(alone)} ;;`);
  return `# Completion of revmoe for bash, made by: revmoe completion bash
_revmoe() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command= flags= i
  COMPREPLY=()
  # bash takes --flag=value for three words.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${names.join("|")}) command=\${COMP_WORDS[i]} ;;
      *) continue ;;
    esac
    # The words behind these are another command's.
    case $command in ${passing.join("|") || "-"}) ;; *) break ;; esac
  done
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W ${words([...names, "--help", "--version"])} -- "$current"))
    return
  fi
  case $command:$previous in
${valueCases.join("\n")}
  esac
  case $command in
${flagCases.join("\n")}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
    return
  fi
  case $command in
    ${passing.join("|") || "-"}) COMPREPLY=($(compgen -W ${words(names)} -- "$current")); return ;;
${aloneCases.join("\n")}
  esac
}
_revmoe_files() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -f -- "$1"))
}
complete -F _revmoe revmoe
`;
}

/** Words that need no other quoting, since names, flags and choices have no blanks. */
const words = (list: readonly string[]): string => `"${list.join(" ")}"`;

function offer(values: Values): string {
  if (values?.kind === "choices") return `COMPREPLY=($(compgen -W ${words(values.choices)} -- "$current")); return`;
  return values?.kind === "files" ? '_revmoe_files "$current"; return' : "return";
}
