// Readers of rows in every file format and of every kind, of the names of sources, and of the cards of data sets.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { readSample } from "../data/conversation.js";
import { chooseFiles } from "../data/sources/choose-files.js";
import { openSources } from "../data/sources/open-sources.js";
import { parseSources } from "../data/sources/parse.js";
import { mutateBytes } from "./mutate-bytes.js";
import { mutateJson } from "./mutate-json.js";
import { mutateLines } from "./mutate-text.js";
import type { Random } from "./random.js";
import { bytesOf, type Reader, readRepositoryFile, textOf } from "./reader.js";

export const CONVERSATION = [
  { role: "user", content: "a b" },
  { role: "assistant", content: "b a" },
];

export const ROWS: unknown[] = [
  { text: "abba" },
  { prompt: "ab", completion: "ba" },
  { messages: CONVERSATION, tools: [{ name: "x" }] },
  { prompt: CONVERSATION.slice(0, 1), completion: CONVERSATION.slice(1) },
  {
    messages: [
      { role: "user", content: "a" },
      { role: "assistant", content: null, tool_calls: [{ function: { name: "f", arguments: {} } }] },
    ],
  },
  {
    conversations: [
      { from: "human", value: "a" },
      { from: "function_call", value: '{"name": "f", "arguments": {"a": 10.0}}' },
      { from: "observation", value: "b" },
      { from: "gpt", value: "a", weight: 0 },
    ],
    system: "b",
    tools: '[{"name": "f"}]',
  },
  { instruction: "a", input: "b", output: "a", system: "b", history: [["a", "b"]] },
  { messages: '[{"role": "user", "content": [{"type": "text", "text": "a"}]}]', system: "a" },
];

export const mutateRow = (seed: Uint8Array, random: Random): Uint8Array =>
  mutateJson(seed, random, ["user", "assistant", "tool", "system", "human", "gpt", "weight", "train"]);

/** For rows with one on each line: makes a row wrong, or the lines. */
function mutateRows(seed: Uint8Array, random: Random): Uint8Array {
  if (random.oneIn(3)) return mutateLines(seed, random);
  const lines = textOf(seed).split("\n");
  const at = random.below(lines.length);
  lines[at] = textOf(mutateRow(bytesOf(lines[at]), random));
  return bytesOf(lines.join("\n"));
}

async function readSamples(path: string): Promise<void> {
  const opened = await openSources(parseSources([{ file: path }]), { format: "auto", columns: {}, seed: 0 });
  for await (const { rows, format } of opened.batches()) for (const row of rows) readSample(row, format);
}

/** A reader of rows in a file with this ending. */
const rowsReader = (ending: string, seeds: () => Uint8Array[], mutate: Reader["mutate"]): Reader => ({
  name: `rows ${ending}`,
  seeds,
  mutate,
  open: (folder) => async (input) => {
    writeFileSync(join(folder, `rows${ending}`), input);
    await readSamples(join(folder, `rows${ending}`));
  },
});

const golden =
  (...names: string[]) =>
  (): Uint8Array[] =>
    names.map((name) => readRepositoryFile(`test/golden/formats/${name}`));
const lines = (): Uint8Array[] => ROWS.map((row) => bytesOf([row, row].map((each) => JSON.stringify(each)).join("\n")));

/** The end of such files says where everything is. */
const mutateEnds = (seed: Uint8Array, random: Random): Uint8Array => {
  const cut = Math.max(0, seed.length - 3000);
  return random.oneIn(2)
    ? mutateBytes(seed, random)
    : Buffer.concat([seed.subarray(0, cut), mutateBytes(seed.subarray(cut), random)]);
};

const tokenRow = { input_ids: [1, 2, 3], labels: [-100, 2, 3], attention_mask: [1, 1, 0] };

export const rowReaders: readonly Reader[] = [
  rowsReader(".jsonl", lines, mutateRows),
  rowsReader(".json", () => [...ROWS.map((row) => bytesOf([row, row])), bytesOf({ data: [tokenRow] })], mutateRow),
  rowsReader(".txt", () => [bytesOf("abba\nbaab\n")], mutateLines),
  rowsReader(
    ".csv",
    () => [bytesOf('prompt,completion\na,"b, ""c"""\n"d\ne",f\n'), bytesOf("text;id\na;1\n")],
    mutateLines,
  ),
  rowsReader(
    ".parquet",
    golden("snappy.parquet", "zstd.parquet", "gzip.parquet", "lz4.parquet", "pages.parquet"),
    mutateEnds,
  ),
  rowsReader(".arrow", golden("stream.arrow", "zstd.feather"), mutateBytes),
  rowsReader(".jsonl.gz", () => lines().map((text) => gzipSync(text)), mutateBytes),
  rowsReader(".jsonl.zst", golden("nested.jsonl.zst"), mutateBytes),
];

export const sourcesReader: Reader = {
  name: "names of sources",
  seeds: () =>
    [
      "a.jsonl:0.7,b/*.parquet[:100]:0.3",
      "org/name@v1[en/test:5]",
      '[{"file": "a", "weight": 1, "columns": {"prompt": "q"}}]',
    ].map(bytesOf),
  mutate: mutateLines,
  open: () => (input) => void parseSources(textOf(input)),
};

const CARD =
  "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.csv\n  - split: test\n    path: [b/**]\n---\n";

export const cardReader: Reader = {
  name: "card of a data set",
  seeds: () => [bytesOf(CARD)],
  mutate: mutateLines,
  open: (folder) => {
    mkdirSync(join(folder, "data"), { recursive: true });
    return async (input) => {
      await chooseFiles(["data/a.csv", "b/c.jsonl"], { file: folder }, textOf(input));
    };
  },
};
