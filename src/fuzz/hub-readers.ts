// Readers of a hub's answers and of the cache's records. No network: these readers replace fetch.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { LIMITS } from "../hub/limits.js";
import { chooseFiles, readRepository, shardsOf } from "../hub/repository.js";
import { resolveModel } from "../hub/resolve.js";
import { mutateJson } from "./mutate-json.js";
import { bytesOf, type Reader, textOf } from "./reader.js";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const FILES = [
  { type: "file", path: "config.json", size: 600, oid: COMMIT },
  {
    type: "file",
    path: "model.safetensors",
    size: 5000,
    oid: COMMIT,
    lfs: { oid: COMMIT, size: 5000, pointerSize: 130 },
  },
  { type: "file", path: "tokenizer.json", size: 700, oid: COMMIT },
  { type: "directory", path: "onnx", size: 0, oid: COMMIT },
];
const REPO = { given: "org/name", id: "org/name", revision: "main" };
const CONNECTION = {
  kind: "model" as const,
  repo: REPO,
  endpoint: "http://hub.invalid",
  token: undefined,
  attempts: 1,
  waitMs: 1,
  limits: LIMITS,
  say: () => {},
};

/** The first answer describes the model, the second lists its files. */
export const listingReader: Reader = {
  name: "answers of a hub",
  seeds: () => [
    bytesOf([
      {
        _id: "1",
        id: "org/name",
        modelId: "org/name",
        sha: COMMIT,
        gated: false,
        private: false,
        downloads: 1,
        likes: 1,
        lastModified: "2024-01-01T00:00:00.000Z",
      },
      FILES,
    ]),
  ],
  mutate: mutateJson,
  open: () => async (input) => {
    let model: unknown = null;
    let listing: unknown = textOf(input);
    try {
      const [first, second] = JSON.parse(textOf(input)) as unknown[];
      [model, listing] = [JSON.stringify(first), JSON.stringify(second)];
    } catch {
      // An input that is not a pair of answers is the answer to every request.
      model = listing;
    }
    const usual = globalThis.fetch;
    globalThis.fetch = (url) =>
      Promise.resolve(
        new Response(String(new URL(String(url)).pathname.includes("/tree/") ? listing : model), {
          headers: { "content-type": "application/json" },
        }),
      );
    try {
      chooseFiles(await readRepository(CONNECTION), REPO.given);
    } finally {
      globalThis.fetch = usual;
    }
  },
};

export const hubIndexReader: Reader = {
  name: "index of a hub",
  seeds: () => [bytesOf({ weight_map: { a: "model-00001-of-00001.safetensors", b: "config.json" } })],
  mutate: (seed, random) => mutateJson(seed, random, ["../x", "config.json", "a/b"]),
  open: () => (input) => {
    const files = ["config.json", "model-00001-of-00001.safetensors", "a/b"].map((path) => ({
      path,
      bytes: 1,
      hash: COMMIT,
    }));
    shardsOf(textOf(input), { commit: COMMIT, files }, REPO.given);
  },
};

export const cacheReader: Reader = {
  name: "record of the cache",
  seeds: () => [bytesOf({ commit: COMMIT, files: [{ path: "config.json", bytes: 2, hash: COMMIT }] })],
  mutate: (seed, random) => mutateJson(seed, random, ["..", "../../..", "/", "."]),
  open: (folder) => {
    const place = join(folder, "models/org/name");
    for (const each of ["refs", "blobs", COMMIT]) mkdirSync(join(place, each), { recursive: true });
    writeFileSync(join(place, COMMIT, "config.json"), "{}");
    return async (input) => {
      writeFileSync(join(place, "refs/main.json"), input);
      const usual = globalThis.fetch;
      globalThis.fetch = () => Promise.reject(new Error("no network"));
      try {
        const out = { write: () => true, isTTY: false, columns: undefined };
        await resolveModel("org/name@main", {
          out,
          preferCached: true,
          env: { REVMOE_CACHE: folder, HF_ENDPOINT: "http://hub.invalid" },
          attempts: 1,
          waitMs: 1,
        });
      } finally {
        globalThis.fetch = usual;
      }
    };
  },
};
