// The command from a run to an ordinary folder, with the losses that the run itself found, and every way to call it
// wrongly.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { type Program, runCli } from "../cli-run.js";
import type { Output } from "../metrics/output.js";
import { jsonlSink } from "../metrics/jsonl.js";
import { ledger } from "../torch/memory.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../train/testing-run.js";
import type { TrainSettings } from "../train/settings.js";
import { command } from "./export.js";

const program: Program = { version: () => "1.2.3", commands: { export: () => Promise.resolve(command) } };

interface Ran {
  code: number;
  out: string;
  err: string;
}

async function run(...words: string[]): Promise<Ran> {
  const [out, err]: string[][] = [[], []];
  const before = ledger();
  const into = (list: string[]): Output => ({ write: (text) => list.push(text) });
  const code = await runCli(program, ["export", ...words], into(out), into(err));
  for (const figure of ["tensors", "liveBytes", "mappedBytes"] as const) assert.equal(ledger()[figure], before[figure], figure);
  return { code, out: out.join(""), err: err.join("") };
}

async function refused(words: string[], pattern: RegExp): Promise<void> {
  const { code, out, err } = await run(...words);
  assert.equal(code, 2, err);
  assert.match(out, /^(exporting [^\n]*\n)?$/);
  assert.match(err, /^revmoe: [^\n]*\n$/);
  assert.match(err, pattern);
}

interface Trained {
  place: Workplace;
  folder: string;
  /** Held-out losses at the end, as trained and as the ordinary network. */
  losses: [number, number];
}

/** A finished run as `revmoe train` leaves it. */
async function trained(t: TestContext, changes: Partial<TrainSettings>): Promise<Trained> {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, { validation_file: place.rows, max_steps: 4, save_steps: 2, ...changes });
  const { evals } = await runTraining(settings);
  const folder = place.out();
  writeFileSync(join(folder, "config.json"), JSON.stringify(settings));
  jsonlSink(join(folder, "metrics.jsonl"), { resumeStep: -1 }).close();
  const at = (as: string): number => evals.findLast(({ network }) => network === as)?.evalLoss ?? Number.NaN;
  return { place, folder, losses: [at("trained"), at("ordinary")] };
}

const COMPUTE = ["--compute-dtype", "float32", "--threads", "1"];

test("a run becomes an ordinary folder; the losses are those that the run found", async (t) => {
  const { place, folder, losses } = await trained(t, { gamma: 0.5 });
  const to = join(place.folder, "to");
  const words = ["--model", folder, "--output-dir", to, "--max-shard-bytes", "20KB"];
  const { code, out, err } = await run(...words, "--validation-file", place.rows, ...COMPUTE);
  assert.deepEqual([code, err], [0, ""]);
  const [trainedLoss, ordinaryLoss] = losses.map((loss) => loss.toFixed(4));
  assert.notEqual(trainedLoss, ordinaryLoss);
  const lines = out.split("\n");
  assert.equal(lines[0], `exporting ${join(folder, "final")}, trained as momentum(0.5), as the ordinary network of its weights`);
  assert.match(
    out,
    /\nwrote .*to: \d+ tensors, per-expert, float32, [\d.]+ KiB in \d+ files; reopened, and every tensor is the same bit for bit\n/,
  );
  assert.ok(out.includes(`held-out loss: ${trainedLoss} as trained (momentum(0.5)), ${ordinaryLoss} as exported (`), out);
  assert.equal(existsSync(join(to, "revmoe.json")), false);
  assert.ok(existsSync(join(to, "tokenizer.json")));

  const second = await run(...words, "--json", "--layout", "fused", "--dtype", "bfloat16", "--validation-file", place.rows, ...COMPUTE);
  assert.deepEqual([second.code, second.err], [0, ""]);
  const made = JSON.parse(second.out) as Record<string, unknown>;
  assert.deepEqual(
    { ...made, bytes: 0, tensors: 0, exportedLoss: 0 },
    {
      source: join(folder, "final"),
      folder: to,
      network: { coupling: "momentum", gamma: 0.5, stream: "int32", streamFractionBits: 16 },
      layout: "fused",
      files: readdirSync(to).filter((name) => name.endsWith(".safetensors")).length,
      dtype: "bfloat16",
      tensors: 0,
      bytes: 0,
      leftOut: [],
      addedKeys: [],
      trainedLoss: losses[0],
      exportedLoss: 0,
    },
  );
  const difference = Math.abs((made.exportedLoss as number) - losses[1]);
  assert.ok(difference > 0 && difference < 0.02 * losses[1], "bfloat16 costs a little");
});

test("before the end, and after a second start, of a run", async (t) => {
  const { place, folder } = await trained(t, { gamma: 0.25 });
  const words = ["--model", folder, "--output-dir", join(place.folder, "to")];
  const later = new Date(Date.now() + 1e6);
  utimesSync(join(folder, "checkpoint-2", "config.json"), later, later);
  assert.match(
    (await run(...words)).out,
    /^note: .*checkpoint-2 was saved after .*final; give its path to export it instead\nexporting .*final, /,
  );
  rmSync(join(folder, "final"), { recursive: true });
  const { out } = await run(...words);
  assert.match(out, /^exporting .*run\/checkpoint-2, trained as momentum/);
  assert.equal(existsSync(join(place.folder, "to", "optimizer.safetensors")), false);
  // A checkpoint by its own path finds the settings of its run, too: here, how the columns are called.
  const settings = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as object;
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...settings, columns: { text: "words" } }));
  writeFileSync(join(place.folder, "held.jsonl"), '{"words": "one and two"}\n');
  const held = ["--validation-file", join(place.folder, "held.jsonl"), ...COMPUTE];
  assert.match((await run("--model", join(folder, "checkpoint-2"), ...words.slice(2), ...held)).out, /held-out loss: \d/);
});

test("any folder can be laid out anew", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const to = (name: string): string => join(folder, name);
  const { out } = await run("--model", model, "--output-dir", to("a"), "--layout", "fused", "--dtype", "float16");
  assert.match(out, /^exporting .*model\nwrote .*a: \d+ tensors, fused, float16, /);
  const again = await run("--model", to("a"), "--output-dir", to("b"), "--max-shard-bytes", "1.5MiB");
  assert.match(
    again.out,
    /config\.json also has rope_theta, rope_scaling, which transformers 4 reads\n.*per-expert, float16, .* in 1 file;/,
  );
});

test("networks that are another function than the ordinary one are refused, unless asked for and measured", async (t) => {
  for (const changes of [{ gamma: -1 }, { coupling: "additive" }] as const) {
    const { place, folder, losses } = await trained(t, changes);
    const to = join(place.folder, "to");
    const words = ["--model", folder, "--output-dir", to];
    await refused(
      words,
      /final: was trained as (momentum\(-1\)|additive), which is another function of its weights than .* add --as ordinary and a --validation-file/,
    );
    await refused(
      [...words, "--as", "ordinary"],
      /^revmoe: as: the ordinary network is not the one that was trained \(.*\), and how much worse it is must be seen\. Add --validation-file\.\n/,
    );
    assert.equal(existsSync(to), false);
    const { out } = await run(...words, "--as", "ordinary", "--validation-file", place.rows, ...COMPUTE);
    assert.ok(out.includes(`${losses[1].toFixed(4)} as exported (+`), out);
    assert.ok(losses[1] > losses[0]);
  }
});

test("wrong calls are refused in one sentence", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const to = ["--output-dir", join(folder, "to")];
  await refused(["--model", model], /--output-dir FOLDER is missing/);
  await refused(["--model", join(folder, "none"), ...to], /none: no such folder/);
  await refused(["--model", model, ...to, "--fused"], /--fused is unknown\. Use layout: fused\./);
  for (const size of ["5 GB", "0x5", "many", "-1", "5PB"]) {
    await refused(
      ["--model", model, ...to, `--max-shard-bytes=${size}`],
      /--max-shard-bytes.*\(expected a number of bytes, as 5GB, 500MB or 2GiB\)/,
    );
  }
  await refused(["--model", model, ...to, "--max-shard-bytes", "0"], /maxShardBytes: is 0 \(expected at least 1/);
  await refused(
    ["--model", model, ...to, "--threads", "1"],
    /--threads 1 has no effect: it is for the held-out loss\. Remove threads, or give validation_file\./,
  );
  await refused(["--model", model, ...to, "--validation-file", join(folder, "none.jsonl")], /none\.jsonl/);
  await refused(["--model", model, "--output-dir", model], /is the model that is exported/);
  await refused(["--model", model, "--output-dir", folder], /is not replaced, because it holds the folder/);
  writeFileSync(join(model, "revmoe.json"), "{}");
  await refused(["--model", model, ...to], /revmoe\.json: is not a description of a network/);
  assert.equal(existsSync(join(folder, "to")), false);
});

test("sizes of shards: units of a thousand and of 1024", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const filesAt = async (size: string): Promise<number> => {
    const { out } = await run("--model", model, "--output-dir", join(folder, "to"), "--json", "--max-shard-bytes", size);
    return (JSON.parse(out) as { files: number }).files;
  };
  // The embedding is the largest tensor: 80 x 24 float32 are 7680 bytes, 7.5 KiB.
  for (const [size, same] of [
    ["20000", "20KB"],
    ["20480", "20KiB"],
    ["20000B", "0.02M"],
  ]) {
    const files = await filesAt(size);
    assert.ok(files > 2);
    assert.equal(await filesAt(same), files, same);
  }
  assert.equal(await filesAt("1GB"), 1);
});

test("the module loads where there is no engine, so that --help works", () => {
  const module = JSON.stringify(new URL("./export.js", import.meta.url).href);
  const script = `console.log((await import(${module})).command.name)`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    env: { ...process.env, LIBTORCH: "/nowhere" },
  });
  assert.equal(stdout, "export\n", stderr);
});
