// `revmoe completion`: prints a script by which a shell completes commands, flags and choices. Its words; the work is
// in completion/.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

export const ROWS = {
  shell: { kind: "choice", choices: ["bash", "zsh", "fish"], required: true, about: "the shell that reads the script" },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "completion",
  usage: "revmoe completion bash|zsh|fish",
  example: [
    "revmoe completion bash > ~/.local/share/bash-completion/completions/revmoe",
    "revmoe completion zsh > ~/.zfunc/_revmoe   # where fpath has ~/.zfunc",
    "revmoe completion fish > ~/.config/fish/completions/revmoe.fish",
  ].join("\n"),
  settings: { rows: ROWS },
  positional: { label: "SHELL", about: "the shell that reads the script", setting: "shell" },
  load: () => import("./completion/print.js"),
};
