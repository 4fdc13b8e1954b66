// A command that hands words on: its own flags come first, and all behind them stays as it was typed.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Command, CommandInput } from "../commands/command.js";
import type { SettingRows } from "../settings/table.js";
import { runCli } from "./program.js";

const ROWS = {
  count: { kind: "integer", default: 1, about: "how often" },
  loud: { kind: "boolean", default: false, about: "whether it is said" },
} as const satisfies SettingRows;

async function start(
  ...words: string[]
): Promise<{ code: number; input?: CommandInput<typeof ROWS>; out: string; err: string }> {
  let input: CommandInput<typeof ROWS> | undefined;
  const [out, err]: string[][] = [[], []];
  const command: Command<typeof ROWS> = {
    name: "again",
    usage: "revmoe again [--setting value ...] COMMAND [...]",
    example: "revmoe again --count 2 train",
    settings: { rows: ROWS },
    passesOn: { label: "COMMAND", about: "what is done" },
    load: async () => ({
      run: async (given) => {
        input = given;
        return 0;
      },
    }),
  };
  const commands = { again: { about: "Do it again", load: async () => command as unknown as Command } };
  const to = (lines: string[]) => ({ write: (text: string) => void lines.push(text) });
  const code = await runCli({ version: () => "0", commands }, ["again", ...words], to(out), to(err));
  return { code, input, out: out.join(""), err: err.join("") };
}

test("words from the first that is no flag are handed on", async () => {
  for (const [words, count, passed] of [
    [["--count", "3", "train", "--count", "4", "--help"], 3, ["train", "--count", "4", "--help"]],
    [["--loud", "--count=2", "train", "a.yaml"], 2, ["train", "a.yaml"]],
    [["train", "--", "x"], 1, ["train", "--", "x"]],
    [[], 1, []],
  ] as const) {
    const { code, input } = await start(...words);
    assert.equal(code, 0);
    assert.deepEqual([input?.settings.count, input?.passed], [count, passed]);
  }
});

test("its own help and its own unknown flags are its own", async () => {
  const { out } = await start("--help", "train");
  assert.match(out, /Usage: revmoe again/);
  assert.match(out, /COMMAND +what is done/);
  const { code, err } = await start("--cuont", "2", "train");
  assert.equal(code, 2);
  assert.match(err, /--cuont is unknown\. Did you mean --count\?/);
});
