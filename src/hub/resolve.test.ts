// Models by name, against a hub of our own: what is fetched, what goes on where it stopped, what is never fetched twice,
// and every way in which it can fail, each as one sentence.
import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { freeModel } from "../model/model.js";
import { loadModel } from "../checkpoint/load.js";
import { MANIFEST_FILE } from "../checkpoint/files/manifest.js";
import { saveModel } from "../checkpoint/save.js";
import { filesLeftOut, folderFiles } from "../checkpoint/source.js";
import { tinyModel } from "../checkpoint/testing-model.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { LIMITS } from "./limits.js";
import { parseName } from "./names.js";
import { request } from "./request.js";
import { type ResolveOptions, resolveModel } from "./resolve.js";
import { filesOf, startHub, type TestingHub } from "./testing-hub.js";

const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));

interface Place {
  hub: TestingHub;
  cache: string;
  folder: string;
  text: () => string;
  /** Resolves org/name, or what is given, with waits of a millisecond. */
  resolve(model?: string, changes?: Partial<ResolveOptions>): Promise<string>;
}

async function makePlace(t: TestContext, { maxShardBytes }: { maxShardBytes?: number } = {}): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-hub-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const model = tinyModel("float32");
  cpSync(join(GOLDEN, "letters"), join(folder, "source"), { recursive: true });
  saveModel(join(folder, "model"), model, { source: folderFiles(join(folder, "source")), maxShardBytes });
  freeModel(model);
  const hub = await startHub(t, filesOf(join(folder, "model")));
  hub.files.set("README.md", Buffer.from("about"));
  let text = "";
  const out = { write: (part: string) => (text += part) };
  const cache = join(folder, "cache");
  const env = { HF_ENDPOINT: hub.endpoint, REVMOE_CACHE: cache };
  const resolve = (given = "org/name", changes: Partial<ResolveOptions> = {}): Promise<string> =>
    resolveModel(given, {
      out,
      env: { ...env, ...changes.env },
      waitMs: 1,
      limits: { leastBytes: 1, ...changes.limits },
      ...("attempts" in changes ? { attempts: changes.attempts } : {}),
      preferCached: changes.preferCached,
    });
  return { hub, cache, folder, resolve, text: () => text };
}

const weightRequests = ({ seen }: TestingHub): string[] => seen.filter((line) => line.includes("store/"));

async function refused(promise: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(promise, (failure: Error) => {
    assert.ok(failure instanceof UserError, failure.stack);
    assert.match(failure.message, pattern);
    assert.doesNotMatch(failure.message, /\n/);
    return true;
  });
}

test("named chat templates are fetched with their folder, and nothing else of it", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.files.set("additional_chat_templates/tool_use.jinja", Buffer.from("tools"));
  hub.files.set("additional_chat_templates/rag.jinja", Buffer.from("rag"));
  hub.files.set("additional_chat_templates/notes.txt", Buffer.from("no"));
  hub.files.set("onnx/config.json", Buffer.from("no"));
  const found = await resolve();
  assert.deepEqual(loadTokenizer(found).chatTemplates, { rag: "rag", tool_use: "tools" });
  assert.deepEqual(readdirSync(join(found, "additional_chat_templates")).sort(), ["rag.jinja", "tool_use.jinja"]);
  assert.deepEqual(filesLeftOut(folderFiles(found)), [], "links into the cache are copied");
  assert.equal(existsSync(join(found, "onnx")), false);
  hub.seen.length = 0;
  assert.equal(await resolve(), found);
  assert.ok(hub.seen.every((line) => line.includes("/api/")));
});

test("a folder that exists is returned as it is, without a request", async (t) => {
  const { hub, folder, resolve } = await makePlace(t);
  assert.equal(await resolve(folder), folder);
  assert.deepEqual(hub.seen, []);
});

test("a model is fetched once: what it needs and no more, byte for byte", async (t) => {
  const { hub, cache, folder, resolve, text } = await makePlace(t);
  for (const name of ["pytorch_model.bin", "consolidated.safetensors", "model-q4.gguf", "training_args.json"])
    hub.files.set(name, Buffer.from("no"));
  hub.files.set("chat_template.jinja", Buffer.from("{{ messages }}"));
  const found = await resolve();
  assert.equal(found, join(cache, "models/org/name", hub.commit()));
  const expected = [
    ...readdirSync(join(folder, "model")).filter((name) => name !== MANIFEST_FILE),
    "chat_template.jinja",
  ].sort();
  assert.ok(expected.includes("tokenizer.json") && expected.includes("config.json"));
  assert.deepEqual(readdirSync(found).sort(), expected);
  for (const name of expected) assert.deepEqual(readFileSync(join(found, name)), hub.files.get(name));
  freeModel(loadModel(found, { weightsDtype: "auto", device: "cpu" }));
  assert.match(
    text(),
    new RegExp(
      `^fetching org/name, commit ${hub.commit()}, from http.*\\n(file \\d/4 .*\\n){4}fetched into ${found}\\n$`,
    ),
  );

  hub.seen.length = 0;
  assert.equal(await resolve("org/name@main"), found);
  assert.deepEqual(hub.seen, ["GET /api/models/org/name/revision/main"].concat(hub.seen.slice(1)));
  assert.ok(
    hub.seen.every((line) => line.includes("/api/")),
    hub.seen.join("\n"),
  );
  hub.seen.length = 0;
  assert.equal(await resolve(`org/name@${hub.commit()}`), found);
  assert.equal(await resolve("org/name", { preferCached: true }), found);
  assert.deepEqual(hub.seen, []);
});

test("without a network a complete model is used, and an incomplete one is not", async (t) => {
  const { hub, resolve, text } = await makePlace(t);
  const found = await resolve();
  hub.close();
  assert.equal(await resolve(), found);
  assert.match(text(), /note: http.* cannot be reached; org\/name is commit [0-9a-f]{40} from the cache\n$/);
  rmSync(join(found, "model.safetensors"));
  await refused(resolve(), /^org\/name: http:\/\/127\.0\.0\.1:\d+ fails: .*ECONNREFUSED.*\. Try again/);
});

test("shards are those that the index names", async (t) => {
  const { hub, resolve } = await makePlace(t, { maxShardBytes: 8000 });
  hub.files.set("model-99999-of-99999.safetensors", Buffer.from("old"));
  const found = await resolve();
  const shards = readdirSync(found).filter((name) => name.endsWith(".safetensors"));
  assert.ok(shards.length > 3 && !shards.includes("model-99999-of-99999.safetensors"));
  freeModel(loadModel(found, { weightsDtype: "auto", device: "cpu" }));
});

test("a connection that breaks goes on behind the last byte, and is given up when nothing more comes", async (t) => {
  const { hub, cache, resolve } = await makePlace(t);
  const bytes = hub.files.get("model.safetensors")!.length;
  // More breaks than attempts: what counts is that every one of them brought something.
  hub.faults.cut = { file: "model.safetensors", share: 0.3, times: 4 };
  await resolve("org/name", { attempts: 2 });
  const ranges = weightRequests(hub).map((line) => Number(/bytes=(\d+)-$/.exec(line)?.[1] ?? 0));
  assert.equal(ranges.length, 5);
  assert.ok(ranges.every((from, i) => i === 0 || from > ranges[i - 1]) && ranges[4] > bytes / 2, ranges.join());

  rmSync(cache, { recursive: true });
  hub.faults.cut = { file: "model.safetensors", share: 0, times: 9 };
  hub.seen.length = 0;
  await refused(
    resolve("org/name", { attempts: 3 }),
    /^org\/name: http.* fails: .* Try again, what has arrived is kept/,
  );
  assert.equal(weightRequests(hub).length, 3);
});

test("what an earlier call left goes on; what it finished is not fetched again, also for another commit", async (t) => {
  const { hub, cache, resolve } = await makePlace(t, { maxShardBytes: 30000 });
  const shards = [...hub.files.keys()].filter((name) => name.endsWith(".safetensors")).sort();
  const last = shards[shards.length - 1];
  hub.faults.cut = { file: last, share: 0.5, times: 1 };
  await refused(resolve("org/name", { attempts: 1 }), / fails: /);
  const parts = readdirSync(join(cache, "models/org/name/blobs")).filter((name) => name.endsWith(".part"));
  assert.equal(parts.length, 1);
  hub.files.set("README.md", Buffer.from("another commit"));
  hub.seen.length = 0;
  const found = await resolve();
  const half = Math.floor(hub.files.get(last)!.length / 2);
  assert.deepEqual(weightRequests(hub), [`GET store/${last} bytes=${half}-`]);
  for (const name of shards) assert.deepEqual(readFileSync(join(found, name)), hub.files.get(name));
  assert.ok(readdirSync(join(cache, "models/org/name/blobs")).every((name) => !name.endsWith(".part")));
});

test("a file that changed on the hub is fetched anew, and the older commit stays", async (t) => {
  const { hub, resolve } = await makePlace(t);
  const before = await resolve();
  const old = readFileSync(join(before, "model.safetensors"));
  const change = (): Buffer => {
    const changed = Buffer.from(hub.files.get("model.safetensors")!);
    changed[changed.length - 1] ^= hub.seen.length;
    hub.files.set("model.safetensors", changed);
    return changed;
  };
  change();
  hub.faults.cut = { file: "model.safetensors", share: 0.5, times: 1 };
  // The connection broke while the hub could be reached: the older commit is no substitute.
  await refused(resolve("org/name", { attempts: 1 }), / fails: /);
  const changed = change();
  hub.seen.length = 0;
  const after = await resolve();
  assert.notEqual(after, before);
  assert.deepEqual(weightRequests(hub), ["GET store/model.safetensors"]);
  assert.deepEqual(readFileSync(join(after, "model.safetensors")), changed);
  assert.deepEqual(readFileSync(join(before, "model.safetensors")), old);
});

test("a damaged part, a server without ranges and a shortened file are all mended", async (t) => {
  const { hub, cache, resolve } = await makePlace(t);
  const whole = hub.files.get("model.safetensors")!;
  const leave = async (): Promise<string> => {
    rmSync(cache, { recursive: true, force: true });
    hub.faults = { cut: { file: "model.safetensors", share: 0.5, times: 1 } };
    await refused(resolve("org/name", { attempts: 1 }), / fails: /);
    const blobs = join(cache, "models/org/name/blobs");
    hub.seen.length = 0;
    return join(blobs, readdirSync(blobs).find((name) => name.endsWith(".part"))!);
  };
  writeFileSync(await leave(), Buffer.alloc(1000, 3));
  assert.deepEqual(readFileSync(join(await resolve(), "model.safetensors")), whole);
  assert.deepEqual(weightRequests(hub), ["GET store/model.safetensors bytes=1000-", "GET store/model.safetensors"]);
  writeFileSync(await leave(), Buffer.alloc(whole.length + 5, 3));
  assert.deepEqual(readFileSync(join(await resolve(), "model.safetensors")), whole);
  writeFileSync(await leave(), whole);
  assert.deepEqual(readFileSync(join(await resolve(), "model.safetensors")), whole);
  assert.deepEqual(weightRequests(hub), []);
  await leave();
  hub.faults.ignoreRanges = true;
  const found = await resolve();
  assert.equal(weightRequests(hub).length, 1);
  assert.deepEqual(readFileSync(join(found, "model.safetensors")), whole);
  truncateSync(join(found, "model.safetensors"), 10);
  await resolve();
  assert.deepEqual(readFileSync(join(found, "model.safetensors")), whole);
});

test("two at once get the same whole folder", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.faults.cut = { file: "model.safetensors", share: 0.5, times: 1 };
  const [first, second] = await Promise.all([resolve(), resolve()]);
  assert.equal(first, second);
  for (const name of readdirSync(first)) assert.deepEqual(readFileSync(join(first, name)), hub.files.get(name));
});

test("a hub that is busy is asked again, a few times", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.faults.statuses = { path: "/revision/", codes: [503, 429, 500] };
  await resolve();
  assert.equal(hub.seen.filter((line) => line.includes("/revision/")).length, 4);
  hub.faults.statuses = { path: "/revision/", codes: Array(9).fill(503) };
  hub.seen.length = 0;
  await refused(
    resolve("org/name@other", { attempts: 3 }),
    /^org\/name@other: http.* fails: it answers with status 503\. Try again/,
  );
  assert.equal(hub.seen.length, 3);
});

test("the token goes to the hub and not to its storage", async (t) => {
  const { hub, resolve } = await makePlace(t);
  hub.faults.token = "hf_right";
  await refused(
    resolve(),
    /no public model of http.* \(status 401\)\. Check the spelling; if it is private, accept the licence on http.*org\/name and set HF_TOKEN\./,
  );
  await refused(resolve("org/name", { env: { HF_TOKEN: "hf_wrong" } }), /does not accept HF_TOKEN \(status 401\)/);
  await refused(resolve("org/name", { env: { HF_TOKEN: "hf_ü" } }), /^HF_TOKEN: holds characters/);
  await resolve("org/name", { env: { HF_TOKEN: " hf_right\n" } });
  assert.deepEqual(weightRequests(hub), ["GET store/model.safetensors"]);
  const connection = {
    repo: parseName("org/name")!,
    kind: "model" as const,
    endpoint: hub.endpoint,
    token: "hf_right",
    attempts: 1,
    waitMs: 1,
  };
  const { chunks } = await request({ ...connection, limits: LIMITS, say: () => {} }, `${hub.store}/model.safetensors`);
  for await (const _ of chunks) break;
  assert.deepEqual(weightRequests(hub), Array(2).fill("GET store/model.safetensors"));
});

test("refusals and unfit repositories are one sentence each", async (t) => {
  const { hub, cache, resolve } = await makePlace(t);
  await refused(
    resolve("./org/name"),
    /^\.\/org\/name: no such folder\. Check the path, or name a model on the hub as org\/name/,
  );
  for (const name of ["name", "a/b/c", "../name", "org/..", "org/name@../x", ""])
    await refused(resolve(name), /no such folder\. Check/);
  await refused(
    resolve("org/other"),
    /^org\/other: is no folder here, and no model of http:.*\. Check the spelling\.$/,
  );
  await refused(
    resolve("org/name@v9"),
    /^org\/name@v9: org\/name has no revision v9\. Choose one of http.*\/org\/name\/tree\/main\.$/,
  );
  await refused(resolve("org/name", { env: { HF_ENDPOINT: "hub.local" } }), /^HF_ENDPOINT: hub\.local is no address/);
  hub.faults.statuses = { path: "/resolve/", codes: [403], errorCode: "GatedRepo" };
  await refused(
    resolve(),
    /only to some \(status 403\)\. Accept the licence on http.*\/org\/name, and set HF_TOKEN\.$/,
  );
  hub.faults.statuses = { path: "/resolve/", codes: [418] };
  await refused(resolve(), /refuses with status 418\. Check HF_ENDPOINT and HF_TOKEN\.$/);
  hub.faults.statuses = { path: "/revision/", codes: [200] };
  await refused(resolve(), /^org\/name: http.* does not answer as a hub does: commit missing\. Check HF_ENDPOINT\.$/);
  hub.faults = { damaged: "model.safetensors" };
  await refused(
    resolve(),
    /what http.* sends as model\.safetensors has another checksum than it states\. Try again later\.$/,
  );
  assert.ok(!existsSync(join(cache, "models/org/name", hub.commit(), "model.safetensors")));
  assert.ok(!existsSync(join(cache, "models/org/name/refs/main.json")));
  hub.faults = { stated: { file: "model.safetensors", bytes: 1e17 } };
  await refused(
    resolve(),
    /^org\/name: takes 90949 TiB more, but the disk of .*blobs has .* free\. Free some space, or set REVMOE_CACHE/,
  );
  const config = hub.files.get("config.json")!;
  hub.faults = {};
  hub.files.set("model.safetensors.index.json", Buffer.from('{"weight_map": {"a": "../a.safetensors"}}'));
  const weights = hub.files.get("model.safetensors")!;
  hub.files.delete("model.safetensors");
  await refused(resolve(), /index\.json names "\.\.\/a\.safetensors", which the repository does not have/);
  hub.files.set("model.safetensors.index.json", Buffer.from("[]"));
  await refused(resolve(), /index\.json has no weight_map/);
  hub.files.delete("model.safetensors.index.json");
  hub.files.set("pytorch_model.bin", weights).set("model-q4.gguf", weights);
  await refused(
    resolve(),
    /no model\.safetensors and no model\.safetensors\.index\.json, only files of kind \.bin, \.gguf\. Choose a repository with safetensors/,
  );
  hub.files.set("config.json", Buffer.from('{"model_type": "gpt2"}')).set("model.safetensors", weights);
  hub.seen.length = 0;
  await refused(resolve(), /config\.json: model_type is "gpt2"/);
  assert.deepEqual(weightRequests(hub), []);
  hub.files.delete("config.json");
  await refused(resolve(), /has no config\.json/);
  hub.files.set("config.json", config);
  writeFileSync(join(cache, "file"), "");
  await refused(
    resolve("org/name", { env: { REVMOE_CACHE: join(cache, "file") } }),
    /cannot be made: .*Set REVMOE_CACHE to a folder that can be written\.$/,
  );
  assert.ok(statSync(await resolve()).isDirectory());
});
