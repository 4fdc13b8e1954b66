// `revmoe init` as a person runs it: the file that it writes trains, for each kind of rows; answers of a pipe; and every refusal, which
// leaves nothing.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { resolveSettings } from "../../../train/settings/settings.js";
import type { Way } from "../../../plan/ways/ways.js";
import { wayFor } from "../../../plan/ways/goal.js";
import { revmoe as called } from "../../../cli/testing-command.js";
import { batchFor, heldOut, lengthFor } from "./looks.js";

const CLI = fileURLToPath(new URL("../../../cli.js", import.meta.url));
const MODEL = fileURLToPath(new URL("../../../../examples/tiny-moe", import.meta.url));

const turn = (role: string, content: string) => ({ role, content });
const KINDS: Record<string, (i: number) => unknown> = {
  messages: (i) => ({ messages: [turn("user", `Say ${i}.`), turn("assistant", `It is ${i}, and not ${i + 1}.`)] }),
  prompt_completion: (i) => ({ prompt: `Say ${i}.`, completion: ` It is ${i}.` }),
  text: (i) => ({ text: `The number ${i} stands here. `.repeat(20) }),
};

async function calledIn(folder: string, words: string[]) {
  const before = process.cwd();
  process.chdir(folder);
  try {
    const { status, stdout, stderr } = await called(...words);
    return { code: status, out: stdout, err: stderr };
  } finally {
    process.chdir(before);
  }
}

/** A folder with rows of a kind, in which commands are run. */
function place(t: TestContext, kind = "messages", count = 60) {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-init-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(
    join(folder, "rows.jsonl"),
    Array.from({ length: count }, (_, i) => `${JSON.stringify(KINDS[kind](i))}\n`).join(""),
  );
  const revmoe = (words: string[]) => calledIn(folder, words);
  /** A process of its own, whose stdin is a pipe. */
  const piped = (words: string[], input: string) => {
    const at = { cwd: folder, input, encoding: "utf8" } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...words], at);
    return { code: status, out: stdout, err: stderr };
  };
  return { folder, revmoe, piped, left: () => readdirSync(folder).filter((name) => name !== "rows.jsonl") };
}

const FLAGS = ["--model", MODEL, "--train-file", "rows.jsonl"];

for (const kind of Object.keys(KINDS)) {
  test(`rows of kind ${kind}: the file is accepted by train, and takes a step`, async (t) => {
    const { folder, revmoe } = place(t, kind);
    const { code, out, err } = await revmoe(["init", ...FLAGS]);
    assert.equal(code, 0, err);
    assert.equal(out, "revmoe train train.yaml\n");
    const text = readFileSync(join(folder, "train.yaml"), "utf8");
    assert.match(
      text,
      new RegExp(
        `^# Fine-tunes .*\\n#   revmoe train train.yaml\\n#\\n# Model: qwen2_moe, .*\\n# Rows: 60 rows of format ${kind}; `,
        "s",
      ),
    );
    assert.match(text, /\n# Plan \(balanced\): /);
    const { given } = resolveSettings({ file: join(folder, "train.yaml") });
    for (const name of ["model", "train_file", "output_dir", "max_length", "validation_rows"])
      assert.ok(given.has(name), name);
    const ran = await revmoe(["train", "train.yaml", "--max-steps", "1", "--threads", "1"]);
    assert.equal(ran.code, 0, ran.err);
    assert.ok(existsSync(join(folder, "runs/train/final/model.safetensors")));
  });
}

test("rows with other names of columns are read as is said, and the file says so", async (t) => {
  const { folder, revmoe } = place(t);
  const rows = Array.from({ length: 50 }, (_, i) => JSON.stringify({ question: `Say ${i}.`, answer: ` It is ${i}.` }));
  writeFileSync(join(folder, "mine.jsonl"), rows.join("\n"));
  const words = ["init", "--model", MODEL, "--train-file", "mine.jsonl"];
  const { err } = await revmoe(words);
  assert.match(err, /have the keys "question", "answer" .* Rename them with the setting columns/);
  const { code } = await revmoe([...words, "--columns", "prompt=question,completion=answer"]);
  assert.equal(code, 0);
  const { settings } = resolveSettings({ file: join(folder, "train.yaml") });
  assert.deepEqual(settings.columns, { prompt: "question", completion: "answer" });
});

test("answers of a pipe, wrong ones among them, make the same file as flags", async (t) => {
  const { folder, revmoe, piped } = place(t);
  const answers = [
    "nothere",
    MODEL,
    "none.jsonl",
    "rows.jsonl",
    "RTX 9999",
    "RTX 4090",
    "64",
    "64GiB",
    "qualty",
    "quality",
    "runs/x",
  ];
  const asked = piped(["init", "a.yaml"], `${answers.join("\n")}\n`);
  assert.equal(asked.code, 0, asked.err);
  for (const sentence of [
    /nothere: no such folder/,
    /none\.jsonl: there is no such file/,
    /"RTX 9999" is not known/,
    /memory: "64" is not possible/,
    /Did you mean quality\?/,
  ])
    assert.match(asked.err, sentence);
  const given = ["--gpu", "RTX 4090", "--memory", "64GiB", "--goal", "quality", "--output-dir", "runs/x"];
  const flagged = await revmoe(["init", "b.yaml", ...FLAGS, ...given, "--json"]);
  assert.equal(flagged.code, 0, flagged.err);
  const [a, b] = ["a", "b"].map((name) =>
    readFileSync(join(folder, `${name}.yaml`), "utf8")
      .split("\n")
      .filter((line) => !/disk|revmoe train/.test(line)),
  );
  assert.deepEqual(a, b);
  const told = JSON.parse(flagged.out) as { file: string; settings: Record<string, unknown>; command: string };
  assert.deepEqual([told.file, told.command, told.settings.device], ["b.yaml", "revmoe train b.yaml", "cuda"]);
});

test("a flag that is missing is named, and leaves nothing", (t) => {
  const { piped, left } = place(t);
  for (const [words, message, input = ""] of [
    [[], /^revmoe: --model is missing .*Give --model/],
    [["--model", MODEL], /--train-file is missing .*Give --train-file/],
    [["--train-file", "rows.jsonl"], /^revmoe: --model is missing/],
    [["--model", MODEL], /nothing\.jsonl: .*\n(?:.*\n)*revmoe: --train-file is missing/, "nothing.jsonl\n"],
  ] as [string[], RegExp, string?][]) {
    const { code, err, out } = piped(["init", ...words], input);
    assert.deepEqual([code, out, left()], [2, "", []], err);
    assert.match(err, message);
  }
});

test("what is wrong is one sentence, and leaves nothing", async (t) => {
  const { folder, revmoe, left } = place(t);
  const at = (name: string): string => join(folder, name);
  const flags = ["--model", MODEL, "--train-file", at("rows.jsonl")];
  const init = (...words: string[]) => revmoe(["init", ...words]);
  for (const name of ["held", "foreign"]) mkdirSync(at(name));
  writeFileSync(at("foreign/notes.txt"), "");
  writeFileSync(at("there.yaml"), "mine");
  for (const [name, to] of [
    ["nowhere.yaml", "gone.yaml"],
    ["link.yaml", "there.yaml"],
    ["held.yaml", "held"],
  ])
    symlinkSync(at(to), at(name));
  const before = left();
  const refusals: [string[], RegExp][] = [
    [[at("there.yaml"), ...flags], /there\.yaml is there already.*--force/],
    [[at("held"), ...flags], /output: .*held is a folder/],
    [[at("nowhere.yaml"), "--model", "nothere"], /output: .*nowhere\.yaml is there already.*--force/],
    [[at("link.yaml"), "--model", "nothere"], /output: .*link\.yaml is there already.*--force/],
    [[at("held.yaml"), ...flags, "--force"], /output: .*held\.yaml is a folder/],
    [[at("there.yaml/a.yaml"), "--model", "nothere"], /output: the folder .*there\.yaml does not exist/],
    [[at("no/a.yaml"), ...flags], /output: the folder .*no does not exist/],
    [[at("a.txt"), ...flags], /output: .*a\.txt is no name for a settings file/],
    [[at("a.yaml"), "--model", "nothere", "--train-file", "x"], /nothere: no such folder/],
    [[at("a.yaml"), "--model", MODEL, "--train-file", "nothere.jsonl"], /nothere\.jsonl: there is no such file/],
    [[at("a.yaml"), ...flags, "--gpu", "RTX 9999"], /gpu: "RTX 9999" is not known/],
    [[at("a.yaml"), ...flags, "--memory", "64"], /--memory 64 is not possible/],
    [[at("a.yaml"), ...flags, "--memory", "1MiB"], /no way to take a step .* fits 1\.00 MiB/],
    [[at("a.yaml"), ...flags, "--goal", "qualty"], /--goal qualty is not possible .*Did you mean quality/],
    [[at("a.yaml"), ...flags, "--output-dir", at("foreign")], /output_dir: .*foreign holds notes\.txt/],
    [[at("a.yaml"), ...flags, "--max-length", "1"], /--max-length 1 is not possible/],
    [[at("a.yaml"), ...flags, "--learning-rate", "1"], /--learning-rate is unknown/],
  ];
  for (const [words, message] of refusals) {
    const { code, err, out } = await init(...words);
    assert.deepEqual([code, out, left()], [2, "", before], `${words.join(" ")}: ${err}`);
    assert.match(err, message);
  }
  assert.equal(readFileSync(at("there.yaml"), "utf8"), "mine");
  assert.equal((await init(at("there.yaml"), ...flags, "--force")).code, 0);
  assert.match(readFileSync(at("there.yaml"), "utf8"), /^# Fine-tunes/);
  writeFileSync(at("there.yaml"), "mine");
  const open = openSync(at("there.yaml"), "r");
  for (const name of ["there.yaml", "nowhere.yaml", "link.yaml"]) {
    assert.equal((await init(at(name), ...flags, "--force")).code, 0);
    assert.ok(lstatSync(at(name)).isFile(), name);
  }
  // A new file takes the old one's place: what was there is whole until then.
  assert.equal(readFileSync(open, "utf8"), "mine");
  closeSync(open);
  assert.deepEqual(left(), before);
});

test("a name with a line break ends no comment, and a command is quoted where it has to be", async (t) => {
  const { folder, revmoe } = place(t);
  for (const [i, name] of ["a\nseed: 7\n.jsonl", "yes\nx.jsonl"].entries()) {
    writeFileSync(join(folder, name), readFileSync(join(folder, "rows.jsonl")));
    const { code, out, err } = await revmoe(["init", `my ${i}.yaml`, "--model", MODEL, "--train-file", name]);
    assert.equal(code, 0, err);
    assert.equal(out, `revmoe train 'my ${i}.yaml'\n`);
    const { settings } = resolveSettings({ file: join(folder, `my ${i}.yaml`) });
    assert.deepEqual([settings.seed, settings.train_file], [42, name]);
  }
});

test("lengths, held-out rows and batches follow the rows", () => {
  const look = { rows: 1000, hasMore: false, seen: 1000, median: 100, meanTokens: 120, trainedShare: 0.5 };
  const rows = (formats: string[], most99: number, longest: number) => ({ ...look, formats, most99, longest });
  assert.equal(lengthFor(rows(["messages"], 700, 9000), 4096), 1024);
  assert.equal(lengthFor(rows(["messages"], 9000, 9000), 4096), 4096);
  assert.equal(lengthFor(rows(["prompt_completion"], 3, 3), 4096), 64);
  assert.equal(lengthFor(rows(["text"], 90_000, 90_000), 40_960), 2048);
  assert.equal(lengthFor(rows(["text"], 100, 130), 4096), 256);
  const some = rows(["messages"], 700, 9000);
  assert.deepEqual(
    [20, 40, 1000, 90_000].map((count) => heldOut({ ...some, rows: count })),
    [0, 2, 50, 200],
  );
  assert.deepEqual(
    [10, 600, 90_000].map((count) => batchFor({ ...some, rows: count }, 1024)),
    [1, 3, 4],
  );
});

test("a goal picks one of the ways", () => {
  const way = (seconds: number, deviceBytes: number, quality: string) =>
    ({ seconds, quality, plan: { placed: { deviceBytes } } }) as Way;
  const ways = [way(5, 50, "some"), way(9, 90, ""), way(4, 60, "more"), way(8, 10, "most"), way(7, 80, "")];
  const picked = (["balanced", "quality", "speed", "memory"] as const).map((goal) =>
    ways.indexOf(wayFor(goal, ways, () => ways[3])),
  );
  assert.deepEqual(picked, [0, 4, 2, 3]);
  assert.equal(
    wayFor("quality", ways.slice(0, 1), () => ways[3]),
    ways[0],
  );
});
