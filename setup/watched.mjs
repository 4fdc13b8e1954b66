// Runs a program that may be silent for minutes, and says from time to time how long it has run and what it does.
// Prints plain lines both on a terminal and on a pipe.
import { spawn } from "node:child_process";

const betweenLinesMs = 10_000;

/**
 * @typedef {{
 *   label?: string, say?: (line: string) => void, cwd?: string, env?: NodeJS.ProcessEnv,
 *   doing?: (line: string) => string | undefined,
 * }} Watching label and say: for lines of progress; without them there are none. doing: what a line of the program's
 *   output tells a person; undefined if nothing.
 * @typedef {{ failed: boolean, missing: boolean, how: string, lines: string[] }} Ended missing: there is no such program.
 *   how: its exit code, or the signal that ended it. lines: what it wrote, both streams together.
 */

/** @param {string[]} command @param {Watching} [watching] @returns {Promise<Ended>} */
export function runWatched([program, ...args], { label, say, cwd, env = process.env, doing = () => undefined } = {}) {
  return new Promise((done) => {
    const started = performance.now();
    const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let last = "";
    const ticking = setInterval(() => {
      const seconds = Math.round((performance.now() - started) / 1000);
      say?.(`${label}: ${seconds} s${last && `, ${last}`}`);
    }, betweenLinesMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
        for (const line of text.split(/[\r\n]+/)) last = doing(line) ?? last;
      });
    }
    let missing = false;
    child.on("error", () => {
      missing = true;
    });
    child.on("close", (code, signal) => {
      clearInterval(ticking);
      done({ failed: code !== 0, missing, how: `${signal ?? code}`, lines: output.trimEnd().split(/\r?\n/) });
    });
  });
}
