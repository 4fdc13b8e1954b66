// Rows become the same documents whoever makes them: this thread, several, or the cache; what is wrong with the cache costs time alone.
import assert from "node:assert/strict";
import fs, { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { type Document, type Documents, eachDocument, inMemory } from "../documents.js";
import { makeDocuments } from "../make-documents.js";
import { fingerprintRows } from "../fingerprint.js";
import { JsonFloat, parseJsonRow } from "../json-values.js";
import type { Row } from "../rows.js";
import { CHATML, folderOf, tokenizerJson } from "../tokenizer/testing-tokenizer.js";
import { entryPath, makeRoom } from "./cache.js";
import { holdBack } from "./hold-back.js";
import type { RowBatch } from "../sources/open-sources.js";
import { cacheKey } from "./key.js";
import { type Preparation, prepareDocuments } from "./prepare.js";
import { fromMessage, toMessage } from "./row-message.js";
import { loadWithInput } from "./tokenizer-input.js";

const CONFIG = { bos_token: null, eos_token: "<|im_end|>", chat_template: CHATML };
const settings = {
  format: "auto",
  columns: {},
  max_length: 60,
  assistant_only_loss: true,
  completion_only_loss: true,
} as const;

const conversations = (count: number): Row[] =>
  Array.from({ length: count }, (_, i) => ({
    place: `d.jsonl:${i + 1}`,
    value: {
      messages: [
        { role: "user", content: `hello ${i}` },
        { role: "assistant", content: "well ".repeat(i % 17) },
      ],
    },
  }));

/** In batches of unlike sizes. */
async function* streamed(rows: Row[], format: RowBatch["format"] = "messages"): AsyncGenerator<RowBatch> {
  for (let start = 0, size = 1; start < rows.length; start += size++)
    yield { rows: rows.slice(start, start + size), format };
}

function tokenizerIn(t: TestContext, config: Record<string, unknown> = CONFIG) {
  const folder = folderOf(t, { "tokenizer.json": tokenizerJson(), "tokenizer_config.json": config });
  const readFile = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : undefined);
  return { folder, ...loadWithInput({ path: folder, readFile }) };
}

function preparation(t: TestContext, rows: Row[], more: Partial<Preparation> = {}): Preparation {
  return { ...tokenizerIn(t), settings, batches: () => streamed(rows), cache: undefined, aloneMs: 0, ...more };
}

const all = (documents: Documents): Document[] => [...eachDocument(documents)];

test("one thread, several, and none make the same documents in the order of the rows", async (t) => {
  const rows = conversations(400);
  const expected = makeDocuments(rows, tokenizerIn(t).tokenizer, settings);
  assert.ok(expected.report.truncated > 0);
  for (const [threads, aloneMs] of [[1, 0] as const, [2, 0] as const, [4, 0] as const, [4, 1e9] as const]) {
    const { documents, report, notes } = await prepareDocuments(preparation(t, rows, { threads, aloneMs }));
    assert.deepEqual(all(documents), expected.documents, `${threads} threads`);
    assert.deepEqual([report, notes], [expected.report, []]);
  }
});

test("the first row with an error is the one that is named, in the same words, by whatever thread", async (t) => {
  const rows = conversations(300);
  for (const bad of [70, 200, 280]) rows[bad].value.messages = "none";
  const before = await prepareDocuments(preparation(t, rows, { aloneMs: 1e9 })).catch((error: Error) => error);
  assert.ok(before instanceof Error && before.message.startsWith("d.jsonl:71: messages is "), String(before));
  await assert.rejects(prepareDocuments(preparation(t, rows, { threads: 3 })), {
    name: "UserError",
    message: before.message,
  });
  const unread = async function* (): AsyncGenerator<RowBatch> {
    yield* streamed(rows.slice(0, 100));
    throw new Error("unreadable");
  };
  await assert.rejects(prepareDocuments(preparation(t, [], { batches: unread, threads: 2 })), {
    message: before.message,
  });
  const fine = async function* (): AsyncGenerator<RowBatch> {
    yield* streamed(rows.slice(0, 60));
    throw new Error("unreadable");
  };
  await assert.rejects(prepareDocuments(preparation(t, [], { batches: fine, threads: 2 })), { message: "unreadable" });
});

test("a template without end is stopped in a thread, too, and named", async (t) => {
  const chat_template = `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}${CHATML}`;
  const tools = tokenizerIn(t, { ...CONFIG, chat_template });
  await assert.rejects(prepareDocuments({ ...preparation(t, conversations(3), { threads: 1 }), ...tools }), {
    name: "UserError",
    message: /^d\.jsonl:1: the chat template goes too far/,
  });
});

test("numbers and keys reach another thread as they were written", () => {
  for (const text of [
    '{"price":10.0,"id":9007199254740993,"2":"b","1":"a"}',
    '{"messages":[{"role":"user","content":"1.0","n":[-0.0,1e30,1e999,0.5,null,true,{"10":{"9":2.0}}]}]}',
    '{"text":"plain \\u00e9 \\u2028","n":1}',
  ]) {
    const value = parseJsonRow(text) as Row["value"];
    const arrived = fromMessage(structuredClone(toMessage({ value, place: "d:1" })));
    assert.deepEqual(arrived, { value, place: "d:1" });
    const unusual = (of: unknown): string =>
      JSON.stringify(of, (_, item) => (typeof item === "bigint" || item instanceof JsonFloat ? `<${item}>` : item));
    assert.equal(unusual(arrived.value), unusual(value));
  }
  assert.ok("value" in toMessage({ value: { id: 3n, when: Number.NaN, list: [{ a: 1 }] }, place: "d:1" }));
});

test("from the cache come the same documents, facts and report, and nothing is read or encoded", async (t) => {
  const rows = conversations(200);
  const cache = { folder: join(folderOf(t, {}), "deep", "rows"), key: "a" };
  const made = await prepareDocuments(preparation(t, rows, { cache, threads: 1 }));
  const expected = makeDocuments(rows, tokenizerIn(t).tokenizer, settings);
  const fail = (): never => assert.fail("nothing is to be read");
  const kept = await prepareDocuments(preparation(t, [], { cache, batches: fail }));
  assert.deepEqual([made.fromCache, kept.fromCache], [false, true]);
  const fingerprint = fingerprintRows(inMemory(expected.documents));
  assert.deepEqual(made.notes, [`prepared rows are kept in ${entryPath(cache)} for the next start`]);
  assert.deepEqual(kept.notes, [`prepared rows are taken from ${entryPath(cache)}`]);
  for (const { documents, report } of [made, kept]) {
    assert.deepEqual(all(documents), expected.documents);
    assert.deepEqual(report, expected.report);
    assert.deepEqual(documents.facts, { fingerprint, largestToken: 266 });
    for (const i of [0, 99, 199]) assert.equal(documents.lengthOf(i), expected.documents[i].tokens.length);
    documents.close();
  }
  assert.deepEqual(readdirSync(cache.folder), ["a.documents"]);
});

test("rows that take no time leave no file", async (t) => {
  const cache = { folder: folderOf(t, {}), key: "a" };
  await prepareDocuments(preparation(t, conversations(20), { cache, aloneMs: 1e9 }));
  assert.deepEqual(readdirSync(cache.folder), []);
});

test("a file that is cut, changed, or of another kind is made anew, with a line", async (t) => {
  const rows = conversations(100);
  const cache = { folder: folderOf(t, {}), key: "a" };
  const path = entryPath(cache);
  const make = () => prepareDocuments(preparation(t, rows, { cache, threads: 1 }));
  const whole = all((await make()).documents);
  const bytes = readFileSync(path);
  const changed = (at: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at] ^= 1;
    return copy;
  };
  for (const [damage, message] of [
    [() => truncateSync(path, 0), /a\.documents: cannot be used: it is cut short; the rows are prepared anew$/],
    [() => truncateSync(path, bytes.length - 1), /it is cut short/],
    [() => writeFileSync(path, bytes.subarray(0, 5000)), /it is cut short/],
    [() => writeFileSync(path, changed(17)), /its bytes are not those that were written/],
    [() => writeFileSync(path, changed(bytes.length - 100)), /its record is damaged/],
    [() => writeFileSync(path, Buffer.concat([bytes, bytes.subarray(-55)])), /not those|damaged|cut short/],
  ] as const) {
    damage();
    const { documents, notes, fromCache } = await make();
    assert.equal(fromCache, false);
    assert.match(notes[0], message);
    assert.match(notes[1], /are kept in/);
    assert.equal(notes.length, 2);
    assert.deepEqual(all(documents), whole);
    assert.ok(readFileSync(path).equals(bytes), "written again");
  }
});

test("where the cache cannot be written, the rows stay in memory, with a line", async (t) => {
  const rows = conversations(100);
  const folder = folderOf(t, { taken: "a file" });
  const expected = makeDocuments(rows, tokenizerIn(t).tokenizer, settings);
  const cache = { folder: join(folder, "taken", "rows"), key: "a" };
  const { documents, notes } = await prepareDocuments(preparation(t, rows, { cache, threads: 1 }));
  assert.deepEqual(all(documents), expected.documents);
  assert.match(notes.join(), /taken\/rows: .*, so prepared rows stay in memory and are not kept for the next start$/);
});

for (const room of [0, 3000, 9000]) {
  test(`a disk that is full after ${room} bytes: all documents are there, and no file`, async (t) => {
    const rows = conversations(100);
    const cache = { folder: folderOf(t, {}), key: "a" };
    const expected = makeDocuments(rows, tokenizerIn(t).tokenizer, settings);
    const ready = preparation(t, rows, { cache, threads: 1 });
    let left = room;
    const { writeSync } = fs;
    const mocked = t.mock.method(
      fs,
      "writeSync",
      (file: number, bytes: Uint8Array, at = 0, length = bytes.length - at) => {
        if (left === 0)
          throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", errno: -28 });
        const count = writeSync(file, bytes, at, Math.min(left, length));
        left -= count;
        return count;
      },
    );
    syncBuiltinESMExports();
    t.after(() => {
      mocked.mock.restore();
      syncBuiltinESMExports();
    });
    const { documents, notes } = await prepareDocuments(ready);
    assert.deepEqual(all(documents), expected.documents);
    assert.match(notes.join(), /: the disk is full, so prepared rows stay in memory/);
    assert.deepEqual(readdirSync(cache.folder), []);
  });
}

test("the key changes with each ingredient, and with nothing else", (t) => {
  const folder = folderOf(t, { "a.jsonl": "{}", "b.jsonl": "{}\n" });
  const [a, b] = [join(folder, "a.jsonl"), join(folder, "b.jsonl")];
  const tokenizer = tokenizerIn(t).input;
  const base = { files: [a], tokenizer, others: { settings, part: ["all but", 0] } };
  const key = cacheKey(base);
  assert.match(String(key), /^[0-9a-f]{40}$/);
  const turned = { part: ["all but", 0], settings: Object.fromEntries(Object.entries(settings).reverse()) };
  assert.equal(cacheKey({ ...base, others: turned }), key, "the order of settings");
  utimesSync(a, 1, 1);
  assert.equal(cacheKey(base), key, "when a file was written");
  const files = new Map(tokenizer.files);
  const other = (name: string, bytes: Uint8Array | undefined) => ({
    ...tokenizer,
    files: new Map(files).set(name, bytes),
  });
  const keys = [
    { ...base, files: [b] },
    { ...base, files: [a, b] },
    { ...base, files: [b, a] },
    ...Object.entries({ max_length: 61, assistant_only_loss: false, completion_only_loss: false, format: "text" }).map(
      ([name, value]) => ({ ...base, others: { settings: { ...settings, [name]: value }, part: ["all but", 0] } }),
    ),
    { ...base, others: { settings: { ...settings, columns: { text: "body" } }, part: ["all but", 0] } },
    { ...base, others: { settings, part: ["last", 0] } },
    { ...base, tokenizer: other("tokenizer.json", Buffer.from("{}")) },
    { ...base, tokenizer: other("tokenizer_config.json", Buffer.from("{}")) },
    { ...base, tokenizer: other("chat_template.jinja", Buffer.from(CHATML)) },
    { ...base, tokenizer: other("chat_template.jinja", Buffer.from("{{ strftime_now('%d') }}")) },
  ].map(cacheKey);
  writeFileSync(a, '{"text":1}');
  keys.push(cacheKey(base));
  assert.equal(new Set([key, ...keys]).size, keys.length + 1);
  assert.equal(cacheKey({ ...base, files: [join(folder, "none")] }), undefined);
});

test("files used longest ago go first; what a killed run left goes when it is old", (t) => {
  const folder = folderOf(t, {});
  const put = (name: string, bytes: number, minutesAgo: number): void => {
    writeFileSync(join(folder, name), Buffer.alloc(bytes));
    const at = Date.now() / 1000 - 60 * minutesAgo;
    utimesSync(join(folder, name), at, at);
  };
  const left = (bounds: { files: number; bytes: number }): string[] => {
    for (const [i, name] of ["a", "b", "c", "d"].entries()) put(`${name}.documents`, 100, 10 - i);
    put("e.documents.7.partial", 100, 5);
    put("f.documents.7.partial", 100, 50);
    makeRoom(folder, join(folder, "d.documents"), bounds);
    return readdirSync(folder);
  };
  assert.deepEqual(left({ files: 9, bytes: 1000 }).length, 5);
  assert.deepEqual(left({ files: 2, bytes: 1000 }), ["c.documents", "d.documents", "e.documents.7.partial"]);
  assert.deepEqual(left({ files: 9, bytes: 300 }), [
    "b.documents",
    "c.documents",
    "d.documents",
    "e.documents.7.partial",
  ]);
  assert.deepEqual(left({ files: 1, bytes: 1 }), ["d.documents", "e.documents.7.partial"], "the newest stays");
});

test("the last rows are held back, however the stream is cut", async () => {
  const rows = conversations(30);
  for (const count of [0, 1, 7, 29, 30, 31]) {
    const { batches, held } = holdBack(streamed(rows), count);
    const first: Row[] = [];
    for await (const batch of batches()) {
      assert.ok(batch.rows.length > 0);
      first.push(...batch.rows);
    }
    const last = held().flatMap((batch) => batch.rows);
    assert.deepEqual([...first, ...last], rows);
    assert.equal(last.length, Math.min(count, rows.length));
  }
});

test("a folder of the cache may stand where several runs prepare the same rows", async (t) => {
  const cache = { folder: folderOf(t, {}), key: "a" };
  mkdirSync(join(cache.folder, "unrelated"));
  const rows = conversations(50);
  const both = await Promise.all([1, 2].map((threads) => prepareDocuments(preparation(t, rows, { cache, threads }))));
  assert.deepEqual(all(both[0].documents), all(both[1].documents));
});
