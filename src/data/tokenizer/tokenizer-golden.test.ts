// Our tokenizer against the Rust library on 300 awkward texts, id by id and back, for tokenizers with the normalisers,
// cuts and decoders of the families (test/golden/make_tokenizers.py); and texts cut anywhere at a special token.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { loadTokenizer } from "./tokenizer.js";

const GOLDEN = fileURLToPath(new URL("../../../test/golden/tokenizers", import.meta.url));
const read = (path: string): unknown => JSON.parse(readFileSync(join(GOLDEN, path), "utf8"));
const TEXTS = read("texts.json") as string[];

/** "3: <text>: found [..], expected [..]" for every row that differs. */
function differences(of: (row: number) => [found: unknown, expected: unknown]): string[] {
  return TEXTS.flatMap((text, i) => {
    const [found, expected] = of(i).map((value) => JSON.stringify(value));
    return found === expected ? [] : [`${i}: ${JSON.stringify(text)}: found ${found}, expected ${expected}`];
  });
}

/** Behind these a text is cut when it is encoded part by part. */
const MARKERS = { qwen: /<\|im_end\|>/g, mixtral: /<\/?s>/g, olmoe: /<\|endoftext\|>/g };

// The library's byte fallback drops a U+FEFF at the beginning of a run of bytes; nothing but shown text is decoded.
const withoutMark = (name: string, text: string): string => (name === "mixtral" ? text.replaceAll("\uFEFF", "") : text);

for (const [name, marker] of Object.entries(MARKERS)) {
  const { rows } = read(`${name}/ids.json`) as { rows: { ids: number[]; text: string }[] };
  const tokenizer = loadTokenizer(join(GOLDEN, name));

  test(`${name}: the ids of 300 texts are those of the Rust library`, () => {
    assert.deepEqual([TEXTS.length, rows.length], [300, 300]);
    assert.deepEqual(
      differences((i) => [tokenizer.encode(TEXTS[i]), rows[i].ids]),
      [],
    );
  });

  test(`${name}: so are the texts of these ids`, () => {
    assert.deepEqual(
      differences((i) => [tokenizer.decode(rows[i].ids), withoutMark(name, rows[i].text)]),
      [],
    );
  });

  test(`${name}: parts that meet at a special token have the ids of the whole`, () => {
    let cuts = 0;
    const found = differences((i) => {
      const ends = [...TEXTS[i].matchAll(marker)].map(({ index, 0: token }) => index + token.length);
      cuts += ends.length;
      const bounds = [0, ...ends, TEXTS[i].length];
      const parts = bounds.slice(1).map((end, part) => [bounds[part], end]);
      return [
        parts.flatMap(([start, end]) => tokenizer.encode(TEXTS[i].slice(start, end), TEXTS[i].slice(0, start))),
        rows[i].ids,
      ];
    });
    assert.deepEqual(found, []);
    assert.ok(cuts > 5, `${cuts} cuts`);
  });
}
