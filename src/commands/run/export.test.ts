// The command from a run to an ordinary folder, with the losses that the run itself found, and every way to call it
// wrongly.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { type Program, runCli } from "../../cli/program.js";
import type { Output } from "../../metrics/output.js";
import { jsonlSink } from "../../metrics/sinks/jsonl.js";
import { ledger } from "../../torch/memory.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../../train/testing-run.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import { COMMANDS } from "../registry.js";

const program: Program = { version: () => "1.2.3", commands: COMMANDS };

interface Ran {
  code: number;
  out: string;
  err: string;
}

async function run(...words: string[]): Promise<Ran> {
  const [out, err]: string[][] = [[], []];
  const before = ledger();
  // Tests export to one place more than once.
  const again = words.includes("--output-dir") ? ["--overwrite-output-dir"] : [];
  const into = (list: string[]): Output => ({ write: (text) => list.push(text) });
  const code = await runCli(program, ["export", ...words, ...again], into(out), into(err));
  for (const figure of ["tensors", "liveBytes", "mappedBytes"] as const)
    assert.equal(ledger()[figure], before[figure], figure);
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
  assert.equal(
    lines[0],
    `exporting ${join(folder, "final")}, trained as momentum(0.5), as the ordinary network of its weights`,
  );
  assert.match(
    out,
    /\nwrote .*to: \d+ tensors, per-expert, float32, [\d.]+ KiB in \d+ files; reopened, and every tensor is the same bit for bit\n/,
  );
  assert.ok(
    out.includes(`held-out loss: ${trainedLoss} as trained (momentum(0.5)), ${ordinaryLoss} as exported (`),
    out,
  );
  assert.equal(existsSync(join(to, "revmoe.json")), false);
  assert.ok(existsSync(join(to, "tokenizer.json")));

  const second = await run(
    ...words,
    "--json",
    "--layout",
    "fused",
    "--dtype",
    "bfloat16",
    "--validation-file",
    place.rows,
    ...COMPUTE,
  );
  assert.deepEqual([second.code, second.err], [0, ""]);
  const made = JSON.parse(second.out) as Record<string, unknown>;
  assert.deepEqual(
    { ...made, bytes: 0, tensors: 0, exportedLoss: 0 },
    {
      source: join(folder, "final"),
      folder: to,
      network: { coupling: "momentum", gamma: 0.5, stream: "int32", streamFractionBits: 16 },
      as: "ordinary",
      layout: "fused",
      files: readdirSync(to).filter((name) => name.endsWith(".safetensors")).length,
      dtype: "bfloat16",
      tensors: 0,
      bytes: 0,
      leftOut: [],
      addedKeys: [],
      notes: [],
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
  utimesSync(join(folder, "checkpoint-4", "config.json"), later, later);
  assert.match(
    (await run(...words)).out,
    /^note: .*checkpoint-4 was saved after .*final; give its path to export it instead\nexporting .*final, /,
  );
  rmSync(join(folder, "final"), { recursive: true });
  const { out } = await run(...words);
  assert.match(out, /^exporting .*run\/checkpoint-4, trained as momentum/);
  assert.equal(existsSync(join(place.folder, "to", "optimizer.safetensors")), false);
  // A checkpoint by its own path finds the settings of its run, too: here, how the columns are called.
  const settings = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as object;
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...settings, columns: { text: "words" } }));
  writeFileSync(join(place.folder, "held.jsonl"), '{"words": "one and two"}\n');
  const held = ["--validation-file", join(place.folder, "held.jsonl"), ...COMPUTE];
  assert.match(
    (await run("--model", join(folder, "checkpoint-4"), ...words.slice(2), ...held)).out,
    /held-out loss: \d/,
  );
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
      /final: was trained as (momentum\(-1\)|additive), which is another function of its weights than .* Add --as trained, .* or --as ordinary with a --validation-file/,
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

test("as trained: the code beside it, the network in config.json, and the same logits for us", async (t) => {
  for (const [changes, network] of [
    [
      { gamma: 0.25, blocks_per_step: 2 },
      { coupling: "momentum", gamma: 0.25, stream: "int32", streamFractionBits: 16, blocksPerStep: 2 },
    ],
    [
      { coupling: "additive", stream: "float32" },
      { coupling: "additive", stream: "float32" },
    ],
    [
      { coupling: "revffn", adapter_sharing: "stream", checkpoint_first_blocks: 1 },
      { coupling: "revffn", adapters: "stream", stream: "int32", streamFractionBits: 16, ordinaryFirst: 1 },
    ],
  ] as const) {
    const { place, folder, losses } = await trained(t, changes as Partial<TrainSettings>);
    const to = join(place.folder, "to");
    const words = ["--model", folder, "--output-dir", to, "--as", "trained", "--max-shard-bytes", "30KB"];
    const { code, out, err } = await run(...words, "--validation-file", place.rows, ...COMPUTE);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(
      out,
      /^exporting .*final as it was trained: .*\nwrote .* every tensor is the same bit for bit\ntransformers loads it with/,
    );
    assert.ok(out.includes(`${losses[0].toFixed(4)} as exported (+0.00 %)`), out);
    assert.deepEqual(
      readdirSync(to).filter((name) => !name.startsWith("model-")),
      [
        "config.json",
        "model.safetensors.index.json",
        "modeling_revmoe.py",
        "revmoe-manifest.json",
        "revmoe.json",
        "tokenizer.json",
        "tokenizer_config.json",
      ],
    );
    const read = (path: string): Record<string, unknown> =>
      JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    const { auto_map, revmoe, model_type, architectures, ...own } = read(join(to, "config.json"));
    assert.deepEqual([revmoe, read(join(to, "revmoe.json"))], [network, network]);
    assert.deepEqual([model_type, architectures], ["revmoe_qwen2_moe", ["RevMoeQwen2MoeForCausalLM"]]);
    assert.deepEqual(auto_map, {
      AutoConfig: "modeling_revmoe.RevMoeQwen2MoeConfig",
      AutoModelForCausalLM: "modeling_revmoe.RevMoeQwen2MoeForCausalLM",
    });
    const source = new URL("../../../export/modeling_revmoe.py", import.meta.url);
    assert.deepEqual(readFileSync(join(to, "modeling_revmoe.py")), readFileSync(source));
    const { model_type: family, architectures: _, ...before } = read(join(folder, "final", "config.json"));
    assert.equal(family, "qwen2_moe");
    for (const [key, value] of Object.entries(before)) assert.deepEqual(own[key], value, key);

    // What is read back is the family's again: exported as the ordinary network it is that of the run, and it trains on.
    const [back, direct] = [join(place.folder, "back"), join(place.folder, "direct")];
    const ordinary = ["--as", "ordinary", "--validation-file", place.rows, ...COMPUTE];
    for (const [from, target] of [
      [to, back],
      [folder, direct],
    ]) {
      assert.equal((await run("--model", from, "--output-dir", target, ...ordinary)).err, "");
    }
    // The text, too, but for white space: readers that check types strictly tell 1.0 from 1.
    const text = (of: string): string => readFileSync(join(of, "config.json"), "utf8").replaceAll(/\s/g, "");
    assert.equal(text(back), text(direct));
    assert.deepEqual(readFileSync(join(back, "model.safetensors")), readFileSync(join(direct, "model.safetensors")));
    rmSync(join(to, "revmoe.json"));
    const more = settingsFor(place, {
      ...(changes as Partial<TrainSettings>),
      model: to,
      output_dir: place.out("more"),
      max_steps: 1,
    });
    const { evals } = await runTraining({ ...more, validation_file: place.rows });
    assert.equal(evals[0].evalLoss, losses[0], "the network that was trained, also from config.json alone");
  }
});

test("as trained is refused where the ordinary network is what was trained", async (t) => {
  const { folder, place } = await trained(t, { coupling: "bdia" });
  const to = ["--output-dir", join(place.folder, "to"), "--as", "trained"];
  await refused(
    ["--model", folder, ...to],
    /as: trained is not needed: .*final was trained as bdia\(.*\), of which the ordinary network is the result\. Leave --as out\./,
  );
  await refused(
    ["--model", place.model, ...to],
    /as: trained is not needed: .*model is an ordinary network\. Leave --as out\./,
  );
});

test("wrong calls are refused in one sentence", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const to = ["--output-dir", join(folder, "to")];
  await refused(["--model", model], /--output-dir FOLDER is missing/);
  await refused(["--model", join(folder, "none"), ...to], /none: no such folder/);
  await refused(["--model", model, ...to, "--fused"], /--fused is unknown\. Use layout: fused\./);
  for (const size of ["5G", "0x5", "500", "", "many", "-1", "5PB"]) {
    await refused(
      ["--model", model, ...to, `--max-shard-bytes=${size}`],
      /--max-shard-bytes.*\(expected a size such as 8GiB or 500MB\)/,
    );
  }
  await refused(["--model", model, ...to, "--max-shard-bytes", "0B"], /maxShardBytes: is 0 \(expected at least 1/);
  await refused(
    ["--model", model, ...to, "--threads", "1"],
    /--threads 1 has no effect: it is for the held-out loss\. Remove threads, or give validation_file\./,
  );
  await refused(["--model", model, ...to, "--validation-file", join(folder, "none.jsonl")], /none\.jsonl/);
  await refused(["--model", model, "--output-dir", model], /is the folder of the model/);
  await refused(["--model", model, "--output-dir", folder], /holds the model, .*Choose another folder/);
  const used = join(folder, "used");
  mkdirSync(used);
  writeFileSync(join(used, "notes.txt"), "mine");
  await refused(["--model", model, "--output-dir", used], /is not replaced, because it holds notes\.txt/);
  writeFileSync(join(model, "revmoe.json"), "{}");
  await refused(["--model", model, ...to], /revmoe\.json: is not a description of a network/);
  assert.equal(existsSync(join(folder, "to")), false);
});

test("sizes of shards: units of a thousand and of 1024", async (t) => {
  const { folder, model } = makeWorkplace(t);
  const filesAt = async (size: string): Promise<number> => {
    const { out } = await run(
      "--model",
      model,
      "--output-dir",
      join(folder, "to"),
      "--json",
      "--max-shard-bytes",
      size,
    );
    return (JSON.parse(out) as { files: number }).files;
  };
  // The embedding is the largest tensor: 80 x 24 float32 are 7680 bytes, 7.5 KiB.
  for (const [size, same] of [
    ["20000B", "20KB"],
    ["20480B", "20KiB"],
    ["20000B", "0.02MB"],
  ]) {
    const files = await filesAt(size);
    assert.ok(files > 2);
    assert.equal(await filesAt(same), files, same);
  }
  assert.equal(await filesAt("1GB"), 1);
});
