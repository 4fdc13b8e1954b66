// `verify` on what is whole and on every kind of damage; it names each thing, goes on past the first, and changes nothing.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { exportFolder } from "../checkpoint/export.js";
import { loadModel } from "../checkpoint/load.js";
import { freeModel } from "../model/model.js";
import { ledger } from "../torch/memory.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../train/testing-run.js";
import type { Finding } from "./findings.js";
import { verify } from "./verify.js";

const GGUF = fileURLToPath(new URL("../../test/golden/gguf", import.meta.url));

function findingsOf(path: string): Finding[] {
  const findings: Finding[] = [];
  const before = ledger();
  verify(path, (level, where, message) => findings.push({ level, where, message }));
  assert.deepEqual([ledger().tensors, ledger().mappedBytes], [before.tensors, before.mappedBytes]);
  return findings;
}

const problemsOf = (path: string): string[] =>
  findingsOf(path)
    .filter(({ level }) => level === "problem")
    .map(({ where, message }) => `${where}: ${message}`);

/** Each pattern is in one problem, and there is no other. */
function finds(path: string, ...patterns: RegExp[]): void {
  const problems = problemsOf(path);
  for (const pattern of patterns)
    assert.ok(
      problems.some((problem) => pattern.test(problem)),
      `${pattern} in\n${problems.join("\n")}`,
    );
  assert.equal(problems.length, patterns.length, problems.join("\n"));
}

/** A workplace with a finished run. */
async function trained(t: TestContext): Promise<Workplace> {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 2, save_steps: 1, optimizer: "adamw" }));
  return place;
}

/** Overwrites the first value of a tensor of 4 bytes. */
function put(path: string, name: string, bits: number): void {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, end).toString()) as Record<string, { data_offsets: [number, number] }>;
  bytes.writeUInt32LE(bits, end + header[name].data_offsets[0]);
  writeFileSync(path, bytes);
}

test("what is whole has no problem: a model, a run with all that it saved, an export, a .gguf and a .safetensors file", async (t) => {
  const place = await trained(t);
  const to = join(place.folder, "to");
  exportFolder(to, join(place.out(), "final"), { layout: "fused", dtype: "bfloat16", maxShardBytes: 20_000 });
  for (const path of [place.model, place.out(), to, join(place.model, "model.safetensors")]) finds(path);
  for (const name of ["mixtral-window.gguf", "dense-llama.gguf"]) {
    const found = findingsOf(join(GGUF, name));
    assert.ok(
      found.some(({ level, message }) => level === "ok" && /parameters of \w+ are there/.test(message)),
      JSON.stringify(found),
    );
  }
  const run = findingsOf(place.out())
    .map(({ where, message }) => `${where}: ${message}`)
    .join("\n");
  for (const pattern of [
    /checkpoint-1\/trainer_state\.json: after step 1/,
    /state of adamw for (\d+) of \1 parameters/,
    /final\/revmoe-manifest\.json: 5 of 5 files/,
  ])
    assert.match(run, pattern);
});

test("many kinds of damage in one folder are all named", async (t) => {
  const place = await trained(t);
  const checkpoint = join(place.out(), "checkpoint-1");
  const [norm, other] = ["model.norm.weight", "model.layers.1.input_layernorm.weight"];
  put(join(checkpoint, "model.safetensors"), norm, 0x7fc00000);
  put(join(checkpoint, "model.safetensors"), other, 0xff800000);
  put(join(checkpoint, "optimizer.safetensors"), `m.${norm}`, 0x7fc00000);
  writeFileSync(join(checkpoint, "tokenizer.json"), "{");
  writeFileSync(join(checkpoint, "README.md"), "card");
  truncateSync(join(checkpoint, "trainer_state.json"), 20);
  finds(
    checkpoint,
    /model\.safetensors: has changed: its SHA-256/,
    /optimizer\.safetensors: has changed/,
    /tokenizer\.json: has 1 bytes, \d+ when it was saved/,
    /trainer_state\.json: has 20 bytes/,
    /model\.norm\.weight holds 1 NaN$/,
    /model\.layers\.1\.input_layernorm\.weight holds 1 infinite values$/,
    /tokenizer\.json: not valid JSON/,
    /trainer_state\.json: cannot be read as JSON/,
    /optimizer\.safetensors: m\.model\.norm\.weight holds 1 NaN/,
  );
});

test("an index that does not agree, a missing shard, tensors that are not the family's, another optimizer", async (t) => {
  const place = await trained(t);
  const final = join(place.out(), "final");
  const to = join(place.folder, "to");
  exportFolder(to, final, { layout: "per-expert", dtype: "auto", maxShardBytes: 20_000 });
  const shards = readdirSync(to).filter((name) => name.startsWith("model-"));
  renameSync(join(to, shards[1]), join(place.folder, "away"));
  finds(to, /is missing$/, /no such file/, /the weights do not fit config\.json\. \d+ missing/);
  renameSync(join(place.folder, "away"), join(to, shards[1]));
  const index = join(to, "model.safetensors.index.json");
  const map = JSON.parse(readFileSync(index, "utf8")) as { weight_map: Record<string, string> };
  map.weight_map["model.norm.weight"] = shards.find((each) => each !== map.weight_map["model.norm.weight"]) as string;
  writeFileSync(index, JSON.stringify(map));
  finds(
    to,
    /index\.json: (has changed|has \d+ bytes)/,
    /places tensors where they are not: model\.norm\.weight/,
    /does not list tensors of the shards: model\.norm\.weight/,
  );
  const config = readFileSync(join(place.model, "config.json"), "utf8");
  writeFileSync(join(place.model, "config.json"), config.replace(/("num_hidden_layers": )\d+/, "$12"));
  finds(place.model, /the weights do not fit config\.json\. \d+ extra/);
  const checkpoint = join(place.out(), "checkpoint-1");
  const state = readFileSync(join(checkpoint, "trainer_state.json"), "utf8");
  writeFileSync(join(checkpoint, "trainer_state.json"), state.replace('"adamw"', '"adafactor"'));
  rmSync(join(checkpoint, "revmoe-manifest.json"));
  finds(
    checkpoint,
    /does not fit the model and adafactor: \S+ is (of no parameter|float32 )/,
    /optimizer\.safetensors: lacks row\./,
  );
  rmSync(join(checkpoint, "optimizer.safetensors"));
  finds(
    place.out(),
    /checkpoint-1: is not complete/,
    /optimizer\.safetensors is missing|trainer_state\.json: .*missing/,
    /optimizer\.safetensors: no such file/,
  );
});

test("a hub's cache, ours or that of Hugging Face, is checked by the names of its blobs, also before a model is loaded", (t) => {
  const place = makeWorkplace(t);
  const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
  const git = (bytes: Buffer): string =>
    createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  const commit = "c0ffee".repeat(7).slice(0, 40);
  for (const [folder, up] of [
    [join(place.folder, "ours", commit), "../blobs"],
    [join(place.folder, "hf", "snapshots", commit), "../../blobs"],
  ]) {
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(folder, up));
    for (const name of readdirSync(place.model)) {
      const bytes = readFileSync(join(place.model, name));
      const hash = name.endsWith(".safetensors") ? sha256(bytes) : git(bytes);
      cpSync(join(place.model, name), join(folder, up, hash));
      symlinkSync(join(up, hash), join(folder, name));
    }
    finds(folder);
    finds(join(folder, up, ".."));
    const load = (): void => freeModel(loadModel(folder, { weightsDtype: "auto", device: "cpu" }));
    load();
    const weights = join(folder, "model.safetensors");
    const bytes = readFileSync(weights);
    bytes[bytes.length - 2] ^= 4;
    writeFileSync(weights, bytes);
    finds(folder, /model\.safetensors: has changed/);
    assert.throws(
      load,
      /model\.safetensors has changed: .*Remove .*blobs\/[0-9a-f]{64} and start again: it is fetched again/,
    );
  }
});

test("a damaged .gguf, and what is nothing to check", (t) => {
  const { folder } = makeWorkplace(t);
  const file = join(folder, "m.gguf");
  const name = readdirSync(GGUF).find((each) => each.endsWith(".gguf")) as string;
  cpSync(join(GGUF, name), file);
  truncateSync(file, readFileSync(file).length - 100);
  finds(file, /the file is cut off/);
  mkdirSync(join(folder, "empty"));
  assert.throws(() => findingsOf(join(folder, "empty")), /holds no weights, no checkpoint and no run/);
  assert.throws(() => findingsOf(join(folder, "none")), /no such file or folder/);
  writeFileSync(join(folder, "x.txt"), "");
  assert.throws(() => findingsOf(join(folder, "x.txt")), /is no file of weights/);
});
