// For tests of commands: the command line in this process. Another one loads the engine again, which takes longer than most commands do; a test
// starts one where streams, signals or the end of a process are what it is about.
import { runCli } from "./program.js";
import { COMMANDS } from "../commands/registry.js";

export interface Called {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs `revmoe WORDS...`. */
export async function revmoe(...words: string[]): Promise<Called> {
  let [stdout, stderr] = ["", ""];
  const status = await runCli(
    { version: () => "0", commands: COMMANDS },
    words,
    { write: (text) => void (stdout += text) },
    { write: (text) => void (stderr += text) },
  );
  return { status, stdout, stderr };
}
