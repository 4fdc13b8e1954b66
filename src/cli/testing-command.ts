// For tests of commands: the command line in this process. Another process would load the engine again, which takes
// longer than most commands; a test starts one only if it tests streams, signals or the end of a process.
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
