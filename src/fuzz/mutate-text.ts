// Wrong text: lines doubled, dropped and moved, odd characters, and for YAML what only YAML has: anchors that multiply,
// aliases to themselves, tags, merge keys, second documents.
import { mutateBytes } from "./mutate-bytes.js";
import type { Random } from "./random.js";

const bomb = [
  "a0: &a0 [x, x, x, x, x, x, x, x, x]",
  ...Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]`),
].join("\n");

const YAML_LINES: readonly string[] = [
  ...[
    "columns: &self {prompt: *self}",
    "columns: &c [*c]",
    "&k gamma: *k",
    "? *missing\n: 1",
    "<<: *base",
    "base: &base {seed: 1}\n<<: *base",
  ],
  ...[
    `columns:\n  ${bomb.replaceAll("\n", "\n  ")}`,
    "columns: *a9",
    "---",
    "...",
    "%YAML 9.9\n---",
    "\tseed: 1",
    "seed:\t1",
    "- a\n- b",
  ],
  ...[
    "seed: !!binary aGVsbG8=",
    "seed: !!js/function 'x'",
    "seed: !!float .nan",
    "learning_rate: .inf",
    "seed: 0x7fffffffffffffff",
    "seed: 0o777",
  ],
  ...[
    "max_steps: 1e15",
    "threads: 1000000000",
    "max_length: 2147483647",
    "num_train_epochs: 1e300",
    "gradient_accumulation_steps: 1000000000000000",
  ],
  ...[
    "__proto__: {a: 1}",
    "constructor: 1",
    "? [complex, key]\n: 1",
    "? {a: b}\n: 2",
    "'': 1",
    "null: 1",
    "~: 1",
    "1: 2",
    "seed: |\n  text",
    "seed: >-\n  1",
  ],
  ...[
    `columns: ${"[".repeat(5_000)}`,
    `columns: ${"{a: ".repeat(3_000)}1${"}".repeat(3_000)}`,
    `model: ${"x".repeat(100_000)}`,
    'model: "a\\0b"',
    "model: '\\ud800'",
  ],
];
const ODD_PIECES = [
  "\u0000",
  "\ufeff",
  "\r",
  "\r\n",
  "\u2028",
  "\u202e",
  "\u001b[31m",
  "\ud800",
  "\n\n",
  "}",
  "{",
  '"',
  "\\",
  "x".repeat(70_000),
  "[".repeat(20_000),
];

export const mutateYaml = (seed: Uint8Array, random: Random): Uint8Array => mutateLines(seed, random, YAML_LINES);

/** `extra` are lines that may be inserted. */
export function mutateLines(seed: Uint8Array, random: Random, extra: readonly string[] = []): Uint8Array {
  const lines = Buffer.from(seed).toString("utf8").split("\n");
  for (let left = random.few(); left > 0; left--) {
    const at = random.below(lines.length);
    const way = random.below(7);
    if (way === 0) lines.splice(at, 1);
    else if (way === 1) lines.splice(at, 0, random.pick(lines) ?? "");
    else if (way < 5 && extra.length > 0) lines.splice(at, random.below(2), random.pick(extra));
    else {
      const line = lines[at] ?? "";
      const cut = random.below(line.length + 1);
      lines[at] = line.slice(0, cut) + random.pick(ODD_PIECES) + line.slice(cut + random.below(3));
    }
  }
  const text = Buffer.from(lines.join("\n"));
  return random.oneIn(4) ? mutateBytes(text, random) : text;
}
