import assert from "node:assert/strict";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { cacheFolder, hubOf, parseName } from "./names.js";

test("org/name and org/name@revision are names, paths are not", () => {
  assert.deepEqual(parseName("Qwen/Qwen1.5-MoE-A2.7B"), {
    given: "Qwen/Qwen1.5-MoE-A2.7B",
    id: "Qwen/Qwen1.5-MoE-A2.7B",
    revision: "main",
  });
  assert.deepEqual(parseName("org/name@refs/pr/1"), {
    given: "org/name@refs/pr/1",
    id: "org/name",
    revision: "refs/pr/1",
  });
  for (const path of ["./a/b", "/a/b", "../a", "a", "a/b/c", "a/..", "a/b@", "a/b@../c", "~/a", "a\\b", "a b/c"]) {
    assert.equal(parseName(path), undefined, path);
  }
});

test("the environment says where the cache and the hub are", () => {
  assert.equal(cacheFolder({}), join(homedir(), ".cache/revmoe"));
  assert.equal(cacheFolder({ XDG_CACHE_HOME: "/x" }), "/x/revmoe");
  assert.equal(cacheFolder({ XDG_CACHE_HOME: "/x", REVMOE_CACHE: "/y" }), "/y");
  assert.equal(cacheFolder({ REVMOE_CACHE: "y" }), join(process.cwd(), "y"));
  assert.deepEqual(hubOf({}), { endpoint: "https://huggingface.co", token: undefined });
  assert.deepEqual(hubOf({ HF_ENDPOINT: "http://mirror:80/hub/", HF_TOKEN: " t\n" }), {
    endpoint: "http://mirror:80/hub",
    token: "t",
  });
});
