// Models by name on the command line: a first run that is killed in the middle of the weights, a second one that goes on
// there and trains, and everything after that without a network.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { filesOf, startHub } from "../../hub/testing-hub.js";
import { makeWorkplace } from "../../train/testing-run.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));

interface Running {
  child: ChildProcess;
  ended: Promise<{ code: number | null; out: string; err: string }>;
}

function revmoe(words: string[], env: Record<string, string>): Running {
  const child = spawn(process.execPath, [CLI, ...words], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err }))) };
}

test("train and generate by name: killed, continued, trained, resumed without a network", async (t) => {
  const place = makeWorkplace(t);
  const hub = await startHub(t, filesOf(place.model));
  const cache = join(place.folder, "cache");
  const env = { HF_ENDPOINT: hub.endpoint, REVMOE_CACHE: cache, HF_TOKEN: "" };
  const blobs = join(cache, "models/org/name/blobs");
  const words = (steps: number): string[] => [
    ...["train", "--model", "org/name", "--train-file", place.rows, "--output-dir", place.out(), "--max-length", "64"],
    ...[
      "--max-steps",
      String(steps),
      "--save-steps",
      "1",
      "--per-device-train-batch-size",
      "1",
      "--threads",
      "1",
      "--compute-dtype",
      "float32",
    ],
  ];
  const half = Math.floor(hub.files.get("model.safetensors")!.length / 2);

  hub.faults.cut = { file: "model.safetensors", share: 0.5, times: 1, hang: true };
  const first = revmoe(words(1), env);
  const partBytes = (): number => {
    const part = existsSync(blobs)
      ? readdirSync(blobs).find((name) => name.length > 64 && name.endsWith(".part"))
      : undefined;
    return part ? statSync(join(blobs, part)).size : 0;
  };
  while (partBytes() < half && first.child.exitCode === null) await sleep(20);
  first.child.kill("SIGKILL");
  await first.ended;
  assert.equal(partBytes(), half);
  assert.ok(!existsSync(place.out()));

  hub.seen.length = 0;
  const second = await revmoe(words(2), env).ended;
  assert.equal(second.code, 0, second.err);
  assert.deepEqual(
    hub.seen.filter((line) => line.includes("store/")),
    [`GET store/model.safetensors bytes=${half}-`],
  );
  const folder = join(cache, "models/org/name", hub.commit());
  assert.match(second.out, new RegExp(`fetched into ${folder}\n`));
  assert.equal((JSON.parse(readFileSync(join(place.out(), "config.json"), "utf8")) as { model: string }).model, folder);
  assert.deepEqual(readFileSync(join(place.out(), "final/tokenizer.json")), hub.files.get("tokenizer.json"));

  hub.close();
  const third = await revmoe([...words(3), "--resume", "latest"], env).ended;
  assert.equal(third.code, 0, third.err);
  assert.match(third.out, /resuming after step 2/);
  const said = await revmoe(
    ["generate", "--model", "org/name", "--prompt", "The", "--max-new-tokens", "2", "--threads", "1", "--json"],
    env,
  ).ended;
  assert.equal(said.code, 0, said.err);
  assert.equal((JSON.parse(said.out) as { tokens: number }).tokens, 2);
  assert.match(said.err, /^note: http.* cannot be reached; org\/name is commit /);
});

for (const [way, waitsFor] of [
  ["half, and then silent", "half of the weights"],
  ["a rest of four minutes", "the rest that the hub asked for"],
  ["silent", "an answer"],
] as const) {
  test(`Ctrl-C while a download waits for ${waitsFor} ends it at once, and what has arrived is used`, {
    timeout: 60_000,
  }, async (t) => {
    const place = makeWorkplace(t);
    const hub = await startHub(t, filesOf(place.model));
    const cache = join(place.folder, "cache");
    const env = { HF_ENDPOINT: hub.endpoint, REVMOE_CACHE: cache, HF_TOKEN: "" };
    const words = ["generate", "--model", "org/name", "--prompt", "The", "--max-new-tokens", "2", "--threads", "1"];
    const blobs = join(cache, "models/org/name/blobs");
    const weights = hub.files.get("model.safetensors")!.length;
    const part = (): number => {
      const names = existsSync(blobs)
        ? readdirSync(blobs).filter((name) => name.length > 64 && name.endsWith(".part"))
        : [];
      return names.length > 0 ? statSync(join(blobs, names[0])).size : 0;
    };
    hub.faults.odd = { path: "store/model.safetensors", way };
    const { child, ended } = revmoe(words, env);
    const half = way.startsWith("half") ? Math.floor(weights / 2) : 0;
    while (!hub.seen.some((line) => line.startsWith("GET store/")) || part() < half) await sleep(20);
    child.kill("SIGINT");
    await ended;
    assert.equal(child.signalCode, "SIGINT");
    assert.equal(part(), half);
    hub.faults = {};
    hub.seen.length = 0;
    const again = await revmoe(words, env).ended;
    assert.equal(again.code, 0, again.err);
    const range = half > 0 ? ` bytes=${half}-` : "";
    assert.deepEqual(
      hub.seen.filter((line) => line.startsWith("GET store/")),
      [`GET store/model.safetensors${range}`],
    );
  });
}
