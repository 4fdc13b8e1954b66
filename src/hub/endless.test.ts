// A hub without end: silent, slow, or of more bytes, pages and rest than anybody can use. Each ends in one sentence and in the
// time that the limits say, nothing is written beyond what was stated, and what has arrived is used by the next call.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "../errors.js";
import { INDEX_FILE } from "../checkpoint/folder.js";
import type { Output } from "../metrics/output.js";
import type { Limits } from "./limits.js";
import { CLEAR_LINE } from "./progress.js";
import { shardsOf } from "./repository.js";
import { resolveModel } from "./resolve.js";
import { filesOf, startHub, type TestingHub } from "./testing-hub.js";
import type { Way } from "./testing-hub-faults.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const QUICK: Partial<Limits> = {
  silenceMs: 150,
  noticeMs: 40,
  leastBytes: 1000,
  answerBytes: 2 ** 20,
  pages: 20,
  files: 400,
  listingMs: 60_000,
};

interface Place {
  hub: TestingHub;
  blobs: () => Map<string, number>;
  said: string[];
  resolve(limits?: Partial<Limits>, out?: Output): Promise<string>;
}

async function makePlace(t: TestContext): Promise<Place> {
  const cache = mkdtempSync(join(tmpdir(), "revmoe-endless-"));
  t.after(() => rmSync(cache, { recursive: true, force: true }));
  const hub = await startHub(t, filesOf(join(GOLDEN, "hf-tiny")));
  const said: string[] = [];
  const folder = join(cache, "models/org/name/blobs");
  const env = { HF_ENDPOINT: hub.endpoint, REVMOE_CACHE: cache, HF_TOKEN: "hf_secret" };
  return {
    hub,
    said,
    blobs: () => new Map(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).size])),
    resolve: (limits, out = { write: (text) => said.push(text) }) =>
      resolveModel("org/name", { out, env, waitMs: 1, attempts: 2, limits: { ...QUICK, ...limits } }),
  };
}

async function refused(promise: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(promise, (failure: Error) => {
    assert.ok(failure instanceof UserError, failure.stack);
    assert.match(failure.message, pattern);
    assert.match(failure.message, /^org\/name: .*\.$/);
    return true;
  });
}

const WEIGHTS = "store/model.safetensors";
const CASES: [path: string, way: Way, pattern: RegExp][] = [
  ["/revision/", "silent", /fails: nothing came of http.*\/revision\/main in 150ms\. Try again/],
  ["/tree/", "silent behind the headers", /fails: nothing came of http.*\/tree\/[0-9a-f]+ in 150ms/],
  ["/tree/", "a byte at a time", /fails: (only \d+ B|nothing) came of http.* in 150ms/],
  [
    "/revision/",
    "endless",
    /does not answer as a hub does: more than 1\.00 MiB where it lists files\. Check HF_ENDPOINT\.$/,
  ],
  ["/tree/", "endless", /more than 1\.00 MiB where it lists files/],
  ["/tree/", "endless behind an error", /refuses with status 418/],
  ["/tree/", "pages in a circle", /the list of files that http.* gives comes back to a page it had/],
  ["/tree/", "ever new pages", /has more than 20 pages/],
  ["/tree/", "many files", /more than 400 files/],
  ["/tree/", "no files", /does not answer as a hub does/],
  [
    "/tree/",
    "sizes that are none",
    /does not answer as a hub does: it lists a file \{"path":"config\.json","bytes":"1e999"/,
  ],
  [
    "/revision/",
    "a rest of 31 years",
    /answers with status 429 and asks to be left alone for 277777h46m \(expected at most 5m00s\)/,
  ],
  [WEIGHTS, "a rest until a day", /answers with status 503 and asks to be left alone for 277h\d+m/],
  ["/revision/", "to itself", /fails: redirect count exceeded/],
  ["/resolve/", "to itself", /fails: redirect count exceeded/],
  ["config.json", "silent", /fails: nothing came of http.* in 150ms/],
  [WEIGHTS, "silent", /fails: nothing came of http.*model\.safetensors in 150ms/],
  [WEIGHTS, "a byte at a time", /fails: (only \d+ B|nothing) came of http.*model\.safetensors in 150ms/],
  [WEIGHTS, "half, and then silent", /fails: (nothing|only .*) came of http.* in 150ms/],
  [WEIGHTS, "endless", /sends as model\.safetensors has another checksum/],
  ["config.json", "to another host", /sends as config\.json has another checksum/],
];

for (const [path, way, pattern] of CASES) {
  test(`${path} ${way}`, async (t) => {
    const { hub, blobs, said, resolve } = await makePlace(t);
    const bytes = hub.files.get("model.safetensors")!.length;
    hub.faults.odd = { path, way };
    const waits = pattern.source.includes("150ms");
    await refused(resolve(waits ? { silenceMs: 150, noticeMs: 40 } : {}), pattern);
    assert.ok(
      hub.seen.every((line) => !line.includes("store/") || !line.includes("token")),
      hub.seen.join("\n"),
    );
    if (waits) {
      assert.match(
        said.join(""),
        /\nwaiting for http.*: .* came in 40ms; given up at \d\d:\d\d:\d\d unless more comes\n/,
      );
      assert.match(
        `\n${said.join("")}`,
        /\nwaiting: http.* fails \(.*\); asked again at \d\d:\d\d:\d\d, attempt 2 of 2\n/,
      );
    }
    if (path === WEIGHTS) for (const size of blobs().values()) assert.ok(size <= bytes);
    // What has arrived is no hindrance.
    hub.faults = {};
    assert.deepEqual(readFileSync(join(await resolve(), "model.safetensors")), hub.files.get("model.safetensors"));
  });
}

test("what comes behind the stated end is not read", async (t) => {
  const { hub, blobs, resolve } = await makePlace(t);
  hub.faults.odd = { path: WEIGHTS, way: "longer than stated" };
  assert.deepEqual(readFileSync(join(await resolve(), "model.safetensors")), hub.files.get("model.safetensors"));
  const sizes = new Set([...hub.files.values()].map(({ length }) => length));
  for (const size of blobs().values()) assert.ok(sizes.has(size));
});

test("on a terminal, words while waiting take the place of the line of figures", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.faults.odd = { path: WEIGHTS, way: "silent" };
  const said: string[] = [];
  const out = { write: (text: string) => said.push(text), isTTY: true, columns: 80 };
  await refused(resolve({ silenceMs: 150, noticeMs: 40 }, out), /nothing came/);
  const line = said.find((text) => text.includes("given up at")) ?? "";
  assert.ok(line.startsWith(`${CLEAR_LINE}waiting for http`) && line.endsWith(" unless more comes\n"), line);
});

test("a list that goes on at another host gets no token", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.faults.odd = { path: "/tree/", way: "pages elsewhere" };
  await refused(resolve(), /is no folder here, and no model of/);
  const elsewhere = hub.seen.filter((line) => line.startsWith("GET store/"));
  assert.ok(elsewhere.length === 1 && !elsewhere[0].endsWith("token"), hub.seen.join("\n"));
});

test("who has a complete model does not wait for a silent hub", async (t) => {
  const { hub, said, resolve } = await makePlace(t);
  const folder = await resolve();
  hub.faults.odd = { path: "/revision/", way: "silent" };
  assert.equal(await resolve({ silenceMs: 100 }), folder);
  assert.match(said.at(-1) ?? "", /^note: http.* cannot be reached; org\/name is commit/);
});

test("a list of files that takes too long, and a side file that is too large", async (t) => {
  const { hub, resolve } = await makePlace(t);
  await refused(resolve({ listingMs: -1 }), /took more than/);
  await refused(
    resolve({ sideFileBytes: 10 }),
    /config\.json has \d+ B|config\.json has .* KiB \(expected at most 10 B\)\. Choose another model\.$/,
  );
  hub.faults.stated = { file: "config.json", bytes: 1e12 };
  await refused(resolve(), /config\.json has 931 GiB \(expected at most 256 MiB\)/);
});

test("an index of very many names takes no time of their square, and odd names are refused", () => {
  const index = (names: Record<string, unknown>): string => JSON.stringify({ weight_map: names });
  const shards = (names: string[]): { commit: string; files: { path: string; bytes: number; hash: string }[] } => ({
    commit: "",
    files: names.map((path) => ({ path, bytes: 1, hash: "" })),
  });
  const many = Array.from({ length: 1e5 }, (_, i) => `s${i}.safetensors`);
  assert.equal(
    shardsOf(index(Object.fromEntries(many.map((name, i) => [`t${i}`, name]))), shards(many), "org/name").length,
    1e5,
  );
  for (const name of ["..", ".", "a/b.safetensors", "a\0.safetensors", "-x", 7, null, "x".repeat(1e6)]) {
    const known = shards([String(name).length < 100 ? String(name) : "other"]);
    assert.throws(
      () => shardsOf(index({ a: name }), known, "org/name"),
      (failure: Error) =>
        failure instanceof UserError && failure.message.includes(INDEX_FILE) && failure.message.length < 400,
      String(name).slice(0, 20),
    );
  }
});
