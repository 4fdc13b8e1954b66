import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { type Program, runCli } from "./program.js";
import type { Command, CommandInput } from "../commands/command.js";
import type { RegisteredCommand } from "../commands/registry.js";
import { UserError } from "../errors.js";
import type { SettingRows } from "../settings/table.js";

const ROWS = {
  model: { kind: "string", required: true, metavar: "FOLDER", about: "folder of a checkpoint" },
  max_new_tokens: { kind: "integer", default: 64, min: 1, about: "tokens at most" },
  temperature: { kind: "number", default: 0, about: "0: always the likeliest" },
  echo: { kind: "boolean", default: true, about: "print the prompt first" },
  file: { kind: "string", default: "", about: "one or several", fromList: (list) => list.join("+") },
} as const satisfies SettingRows;

/** A program with commands that note what they are run with. */
function fakeProgram(act: (input: CommandInput<typeof ROWS>) => number = () => 0): Program & { loaded: string[] } {
  const loaded: string[] = [];
  const tune: Command<typeof ROWS> = {
    name: "tune",
    usage: "revmoe tune [CONFIG.yaml] [--setting value ...]",
    example: "revmoe tune run.yaml\nrevmoe tune --model base",
    settings: { rows: ROWS },
    positional: { label: "CONFIG.yaml", about: "a settings file; flags go before it" },
    json: true,
    load: async () => ({ run: async (input) => act(input) }),
  };
  const say: Command<typeof ROWS> = {
    ...tune,
    name: "say",
    positional: { label: "FOLDER", about: "the model", setting: "model" },
    json: false,
  };
  const look: Command = {
    name: "look",
    usage: "revmoe look",
    example: "revmoe look",
    settings: { rows: {} },
    load: async () => ({
      run: async ({ out }) => {
        out.write("nothing\n");
        return 0;
      },
    }),
  };
  const registered = (about: string, command: Command): RegisteredCommand => ({
    about,
    load: async () => {
      loaded.push(command.name);
      return command;
    },
  });
  const commands = {
    tune: registered("Fine-tune a model", tune),
    say: registered("Print text", say),
    look: registered("Look around", look),
  };
  return { version: () => "1.2.3", commands, loaded };
}

async function run(program: Program, line: string | string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: string[][] = [[], []];
  const words = typeof line === "string" ? line.split(" ").filter((word) => word !== "") : line;
  const code = await runCli(program, words, { write: (text) => out.push(text) }, { write: (text) => err.push(text) });
  return { code, out: out.join(""), err: err.join("") };
}

async function settingsOf(line: string | string[]): Promise<Record<string, unknown>> {
  let seen: Record<string, unknown> = {};
  const { code, err } = await run(
    fakeProgram(({ settings, json }) => {
      seen = { ...settings, json };
      return 0;
    }),
    line,
  );
  assert.equal(err, "");
  assert.equal(code, 0);
  return seen;
}

async function refusal(line: string | string[]): Promise<string> {
  const { code, out, err } = await run(fakeProgram(), line);
  assert.equal(code, 2);
  assert.equal(out, "");
  assert.match(err, /^revmoe: [^\n]*\n$/);
  return err.slice("revmoe: ".length, -1);
}

const DEFAULTS = { model: "m", max_new_tokens: 64, temperature: 0, echo: true, file: "", json: false };

test("flags in all their forms", async () => {
  const cases: [string | string[], Record<string, unknown>][] = [
    ["tune --model m", {}],
    ["tune --model=m --max-new-tokens 5", { max_new_tokens: 5 }],
    ["tune --max_new_tokens=5 --model m", { max_new_tokens: 5 }],
    ["tune --model m --no-echo", { echo: false }],
    ["tune --model m --no_echo", { echo: false }],
    ["tune --echo --model m", { echo: true }],
    ["tune --model m --echo=false", { echo: false }],
    ["tune --model m --echo false", { echo: false }],
    ["tune --model m --temperature -1", { temperature: -1 }],
    ["tune --model m --json", { json: true }],
    [["tune", "--model", "- a b"], { model: "- a b" }],
    [["tune", "--model=--m"], { model: "--m" }],
    ["say m", {}],
    ["say --no-echo m", { echo: false }],
    ["say -- --m", { model: "--m" }],
    ["say -- --help", { model: "--help" }],
  ];
  for (const [line, changes] of cases)
    assert.deepEqual(await settingsOf(line), { ...DEFAULTS, ...changes }, String(line));
});

test("a flag that takes several words has all up to the next flag, or to a settings file", async () => {
  for (const [line, file] of [
    ["tune --file a.jsonl b/*.csv:0.3 --model m", "a.jsonl+b/*.csv:0.3"],
    ["tune --model m --file a.jsonl b.json", "a.jsonl+b.json"],
    ["tune --file a.jsonl --model m", "a.jsonl"],
    ["tune --model m --file=a.jsonl", "a.jsonl"],
  ])
    assert.deepEqual(await settingsOf(line), { ...DEFAULTS, file });
  for (const name of ["run.yaml", "out/config.json"])
    assert.match(await refusal(`tune --file a b ${name}`), new RegExp(`^${name}: there is no such settings file`));
  assert.match(await refusal("tune --model a b --file c"), /there is no such settings file/);
});

test("a settings file stands without a flag, and flags go before it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-cli-"));
  try {
    const file = join(folder, "run.yaml");
    writeFileSync(file, "model: m\nmax_new_tokens: 5\ntemperature: 1\n");
    assert.deepEqual(await settingsOf(["tune", file, "--temperature", "2"]), {
      ...DEFAULTS,
      max_new_tokens: 5,
      temperature: 2,
    });
    assert.deepEqual(await settingsOf(["tune", "--echo", file]), { ...DEFAULTS, max_new_tokens: 5, temperature: 1 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("what is wrong on the command line is one line and exit code 2", async () => {
  const cases: [string | string[], string][] = [
    ["tone", '"tone" is no command (expected tune, say, look). Did you mean tune?'],
    ["quantise", '"quantise" is no command (expected tune, say, look). See: revmoe --help'],
    ["help tone", '"tone" is no command (expected tune, say, look). Did you mean tune?'],
    ["--json tune", "--json stands before a command (expected revmoe COMMAND --json ...). See: revmoe --help"],
    ["tune --modle m", "--modle is unknown. Did you mean --model?"],
    ["tune --modle=m", "--modle is unknown. Did you mean --model?"],
    ["tune --config run.yaml", "--config is unknown. The settings file stands without a flag: revmoe tune CONFIG.yaml"],
    ["tune --model", "--model has no value (expected --model FOLDER)."],
    [
      "tune --model --echo",
      "--model has no value (expected --model FOLDER). A value that starts with -- is written --model=--echo.",
    ],
    ["tune --model a --model b", "--model is given a second time. Give it once."],
    ["tune --echo --no-echo", "--no-echo is given a second time. Give it once."],
    ["tune --no-echo=false", "--no-echo takes no value. Give --no-echo or --echo."],
    ["tune --no-model", "--no-model is unknown: model is no switch. Give --model FOLDER."],
    ["tune --no-eco", "--no-eco is unknown. Did you mean --no-echo?"],
    ["tune -m m", "-m is unknown. Flags are long and start with two dashes; see: revmoe tune --help"],
    [
      "tune a.yaml b.yaml",
      '"b.yaml" is one word too many (expected one CONFIG.yaml and flags). See: revmoe tune --help',
    ],
    ["look here", '"here" is one word too many (expected flags only). See: revmoe look --help'],
    ["say a --model b", 'FOLDER is given twice: as "a" and as --model. Give it once.'],
    ["say a --json", "--json is not understood by say. Leave it out."],
    ["say", "--model FOLDER is missing (expected a text that is not empty: folder of a checkpoint). See --help."],
    ["say a --max-new-tokens 0", "--max-new-tokens 0 is not possible (expected an integer of at least 1)."],
  ];
  for (const [line, message] of cases) assert.equal(await refusal(line), message);
});

test("a command's own UserError is one line, any other error a stack", async () => {
  const user = await run(
    fakeProgram(() => {
      throw new UserError("data.jsonl:3: bad.\n  Mend it.");
    }),
    "say m",
  );
  assert.deepEqual(user, { code: 2, out: "", err: "revmoe: data.jsonl:3: bad. Mend it.\n" });
  const bug = await run(
    fakeProgram(() => {
      throw new TypeError("oops");
    }),
    "say m",
  );
  assert.equal(bug.code, 1);
  assert.match(bug.err, /^TypeError: oops\n {4}at /);
});

test("the exit code is the command's, and only that command is loaded", async () => {
  const program = fakeProgram(() => 3);
  assert.equal((await run(program, "say m")).code, 3);
  assert.deepEqual(program.loaded, ["say"]);
  assert.deepEqual(await run(fakeProgram(), "look"), { code: 0, out: "nothing\n", err: "" });
});

test("help of the whole lists the commands", async () => {
  const expected = [
    "revmoe 1.2.3: fine-tune all parameters of Mixture-of-Experts language models, on one machine or several",
    "",
    "Usage: revmoe COMMAND [...]",
    "",
    "  tune                          Fine-tune a model",
    "  say                           Print text",
    "  look                          Look around",
    "",
    "  --version                     print the version",
    "  COMMAND --help                what a command does, its settings and an example",
    "",
  ].join("\n");
  for (const line of ["--help", "-h", "help"])
    assert.deepEqual(await run(fakeProgram(), line), { code: 0, out: expected, err: "" });
  assert.deepEqual(await run(fakeProgram(), ""), { code: 2, out: "", err: expected });
  assert.deepEqual(await run(fakeProgram(), "--version"), { code: 0, out: "1.2.3\n", err: "" });
});

test("help of the whole loads no command, help of one loads that one", async () => {
  const program = fakeProgram();
  await run(program, "--help");
  assert.deepEqual(program.loaded, []);
  await run(program, "help look");
  assert.deepEqual(program.loaded, ["look"]);
});

test("help of a command shows usage, example and settings, whatever else was typed", async () => {
  const expected = [
    "revmoe tune: Fine-tune a model",
    "",
    "Usage: revmoe tune [CONFIG.yaml] [--setting value ...]",
    "",
    "  CONFIG.yaml                   a settings file; flags go before it",
    "",
    "Example:",
    "  revmoe tune run.yaml",
    "  revmoe tune --model base",
    "",
    "Settings",
    "  --model FOLDER                folder of a checkpoint (required)",
    "  --max-new-tokens N            tokens at most (default 64)",
    "  --temperature X               0: always the likeliest (default 0)",
    "  --[no-]echo                   print the prompt first (default true)",
    "  --file TEXT                   one or several (default none)",
    "",
    "For every command",
    "  --json                        print one JSON document for machines",
    "  --help                        print this",
    "",
  ].join("\n");
  for (const line of ["tune --help", "tune -h", "help tune", "tune none.yaml --modle --help"]) {
    assert.deepEqual(await run(fakeProgram(), line), { code: 0, out: expected, err: "" }, line);
  }
  const { out } = await run(fakeProgram(), "look --help");
  assert.equal(
    out,
    "revmoe look: Look around\n\nUsage: revmoe look\n\nExample:\n  revmoe look\n\n" +
      "For every command\n  --help                        print this\n",
  );
});

test("what errors quote reaches no terminal as it is, and not without end", async () => {
  for (const [thrown, says] of [
    [
      new UserError(`m.gguf: "\x1b[2J\u009b1m${"k".repeat(57_000)}" is no key. Download it again.`),
      /^revmoe: m\.gguf: "\\x1b\[2J\\u009b1mkkk.* Download it again\.\n$/,
    ],
    [new UserError("a\u202eb\x07.\n  Do this."), /^revmoe: a\\u202eb\\x07\. Do this\.\n$/],
    [new Error(`\x1b]0;t\x07${"e".repeat(9_000)}`), /^Error: \\x1b\]0;t\\x07eee/],
  ] as const) {
    const { err } = await run(
      fakeProgram(() => {
        throw thrown;
      }),
      "tune --model m",
    );
    assert.match(err, says);
    assert.ok(err.length < 2200, `${err.length}`);
  }
});
