// `revmoe train` as a person runs it: a whole run and stopping it, in processes of their own, and every way to call it wrongly.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { writeRaw } from "../../checkpoint/testing-model.js";
import type { RunEvent } from "../../metrics/record.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "../../train/testing-run.js";
import { revmoe } from "../../cli/testing-command.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

interface Around {
  env?: Record<string, string>;
  /** Sends SIGINT when this is on stdout. */
  interruptAt?: RegExp;
}

function apart(words: string[], { env = {}, interruptAt }: Around = {}): Promise<Ended> {
  const child = spawn(process.execPath, [CLI, ...words], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended: Ended = { code: null, out: "", err: "" };
  let interrupted = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    ended.out += text;
    if (!interrupted && interruptAt?.test(ended.out)) interrupted = child.kill("SIGINT");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (ended.err += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ ...ended, code }));
  });
}

async function here(words: string[]): Promise<Ended> {
  const { status, stdout, stderr } = await revmoe(...words);
  return { code: status, out: stdout, err: stderr };
}

/** Words that train two steps of one micro-batch, or as the changes say. */
function wordsFor({ model, rows, out }: Workplace, changes: Record<string, string> = {}): string[] {
  const flags = {
    model,
    train_file: rows,
    output_dir: out(),
    max_length: "64",
    max_steps: "2",
    per_device_train_batch_size: "1",
    threads: "1",
    compute_dtype: "float32",
    learning_rate: "5e-3",
    ...changes,
  };
  return ["train", ...Object.entries(flags).map(([name, value]) => `--${name.replaceAll("_", "-")}=${value}`)];
}

function assertRefused({ code, err }: Ended, pattern: RegExp): void {
  assert.equal(code, 2, err);
  assert.match(err, /^revmoe: [^\n]+\n$/);
  assert.doesNotMatch(err, /file:\/\/|internal:|\.js:\d/);
  assert.match(err, pattern);
}

function metricsOf(folder: string): RunEvent[] {
  const text = readFileSync(join(folder, "metrics.jsonl"), "utf8");
  assert.ok(text.endsWith("\n"));
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as RunEvent);
}

const stepsOf = (folder: string): [number, number][] =>
  metricsOf(folder).flatMap((event) => (event.kind === "step" ? [[event.step, event.loss]] : []));

interface RawTensor {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The weights of a model with their header changed; data stays where it is. */
function changeWeights(
  { model }: Workplace,
  change: (header: Record<string, RawTensor>, data: Buffer) => Buffer,
): void {
  const path = join(model, "model.safetensors");
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, RawTensor>;
  delete header.__metadata__;
  const data = change(header, bytes.subarray(8 + length));
  writeRaw(path, header, data);
}

function changeConfig({ model }: Workplace, change: (text: string) => string): void {
  const path = join(model, "config.json");
  writeFileSync(path, change(readFileSync(path, "utf8")));
}

const GATE = "model.layers.0.mlp.gate.weight";

interface Refusal {
  name: string;
  /** Breaks something in the workplace; returns flags that differ from the usual ones. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most have no flags to return
  break(place: Workplace): Record<string, string> | void | Promise<Record<string, string>>;
  env?: Record<string, string>;
  says: RegExp;
}

const REFUSALS: Refusal[] = [
  {
    name: "no such model folder",
    break: ({ folder }) => ({ model: join(folder, "nowhere") }),
    says: /nowhere: no such folder\. Check the path/,
  },
  {
    name: "a model family that is not known",
    break: (place) => changeConfig(place, (text) => text.replace('"qwen2_moe"', '"llama"')),
    says: /config\.json: .*model_type.*llama.*expected.*qwen2_moe/,
  },
  {
    name: "config.json cut short",
    break: (place) => changeConfig(place, (text) => text.slice(0, 200)),
    says: /config\.json: cannot be read as JSON/,
  },
  {
    name: "a wrong value in config.json",
    break: (place) =>
      changeConfig(place, (text) => text.replace('"num_key_value_heads": 2', '"num_key_value_heads": 3')),
    says: /config\.json: "num_key_value_heads" is 3 \(expected a divisor of num_attention_heads, 4\)/,
  },
  {
    name: "a tensor missing",
    break: (place) =>
      changeWeights(place, (header, data) => {
        const last = Object.keys(header).reduce((a, b) =>
          header[a].data_offsets[1] > header[b].data_offsets[1] ? a : b,
        );
        const [begin] = header[last].data_offsets;
        delete header[last];
        return data.subarray(0, begin);
      }),
    says: /the weights do not fit config\.json\. 1 missing: \S+\. Check/,
  },
  {
    name: "a tensor extra",
    break: (place) =>
      changeWeights(place, (header, data) => {
        header["model.layers.9.bias"] = { dtype: "F32", shape: [1], data_offsets: [data.length, data.length + 4] };
        return Buffer.concat([data, Buffer.alloc(4)]);
      }),
    says: /1 extra: model\.layers\.9\.bias\. Check/,
  },
  {
    name: "a tensor misshapen",
    break: (place) =>
      changeWeights(place, (header, data) => {
        header[GATE].shape.reverse();
        return data;
      }),
    says: /1 unfit: model\.layers\.0\.mlp\.gate\.weight: shape \[24, 6\] in the checkpoint, \[6, 24\] by config\.json/,
  },
  {
    name: "weights cut off",
    break: ({ model }) => truncateSync(join(model, "model.safetensors"), 90_000),
    says: /model\.safetensors: the file is cut off: its header describes \d+ bytes of tensors, found \d+\. Download/,
  },
  {
    name: "a header that lies about offsets",
    break: (place) =>
      changeWeights(place, (header, data) => {
        header[GATE].data_offsets = [0, 6 * 24 * 4];
        return data;
      }),
    says: /model\.safetensors: .*The header lies about offsets/,
  },
  {
    name: "no rows",
    break: ({ rows }) => writeFileSync(rows, "\n\n"),
    says: /rows\.jsonl: the file has no rows/,
  },
  {
    name: "row 17 no JSON",
    break: ({ rows }) => writeFileSync(rows, `${'{"text": "abc"}\n'.repeat(16)}{"text": "abc"\n{"text": "abc"}\n`),
    says: /rows\.jsonl:17: not valid JSON/,
  },
  {
    name: "a row with other fields",
    break: ({ rows }) => writeFileSync(rows, '{"question": "a", "answer": "b"}\n'),
    says: /rows\.jsonl:1: the first rows have the keys "question", "answer" \(expected .*columns/,
  },
  {
    name: "no token that is trained",
    break: ({ rows }) => {
      writeFileSync(rows, `${JSON.stringify({ prompt: "a".repeat(40), completion: "b" })}\n`);
      return { max_length: "16" };
    },
    says: /rows\.jsonl:1: no token of the row is trained .*1 of them were cut at max_length 16; set a larger max_length/,
  },
  {
    name: "a token beyond the vocabulary",
    break: ({ model }) => {
      const path = join(model, "tokenizer.json");
      writeFileSync(
        path,
        readFileSync(path, "utf8").replace('"?": 68', '"?": 68, "~": 80').replace('"m": 14', '"m": 90'),
      );
    },
    says: /rows\.jsonl:\d+: token 90 is outside the model's vocabulary of 80/,
  },
  {
    name: "an unknown setting",
    break: () => ({ learning_rte: "1" }),
    says: /--learning-rte is unknown\. Did you mean --learning-rate\?/,
  },
  {
    name: "a setting without effect",
    break: () => ({ coupling: "additive", gamma: "0.5" }),
    says: /--gamma 0\.5 has no effect: only couplings momentum and bdia have it, not --coupling additive/,
  },
  {
    name: "a checkpoint whose optimizer file is cut off",
    break: async (place) => {
      const { outcome } = await runTraining(settingsFor(place), { stopAt: 1 });
      const file = join(outcome.folder, "optimizer.safetensors");
      truncateSync(file, statSync(file).size / 2);
      return { resume: outcome.folder };
    },
    says: /checkpoint-1\/optimizer\.safetensors has \d+ bytes, \d+ when it was saved\. There is no whole checkpoint before it/,
  },
  {
    name: "a checkpoint of another model",
    break: async (place) => {
      const { outcome } = await runTraining(settingsFor(place), { stopAt: 1 });
      changeConfig({ ...place, model: outcome.folder }, (text) =>
        text.replace('"moe_intermediate_size": 12', '"moe_intermediate_size": 16'),
      );
      return { resume: outcome.folder };
    },
    says: /checkpoint-1\/config\.json has changed: its SHA-256 is/,
  },
  {
    name: "a LIBTORCH of no use",
    break: () => {},
    env: { LIBTORCH: "/nonexistent" },
    says: /LIBTORCH=\/nonexistent: no libtorch there .*Correct it, or unset it to use another\.\s*$/,
  },
  {
    name: "an output folder that cannot be made",
    break: ({ rows }) => ({ output_dir: join(rows, "run") }),
    says: /output_dir: \S+rows\.jsonl\/run cannot be written: .*Choose another folder/,
  },
  {
    name: "an output folder that holds a run",
    break: ({ out }) => {
      mkdirSync(out());
      writeFileSync(join(out(), "metrics.jsonl"), "{}\n");
      writeFileSync(join(out(), "config.json"), '{"train_file": "a.jsonl", "output_dir": "runs/a"}');
    },
    says: /output_dir: \S+run already holds a run\. Choose another folder, or start anew with overwrite_output_dir/,
  },
  {
    name: "a model that overwriting would remove",
    break: ({ model, out }) => {
      cpSync(model, join(out(), "checkpoint-3"), { recursive: true });
      for (const name of ["trainer_state.json", "optimizer.safetensors"])
        writeFileSync(join(out(), "checkpoint-3", name), "");
      return { model: join(out(), "checkpoint-3"), overwrite_output_dir: "true" };
    },
    says: /model: \S+checkpoint-3 is in checkpoint-3 of the run that overwrite_output_dir removes/,
  },
  {
    name: "a device that is not there",
    break: () => ({ device: "cuda:99" }),
    says: /device: cuda:99 is not there: libtorch \S+ sees \d+ CUDA device\(s\)/,
  },
  {
    name: "a learning rate that blows up",
    break: () => ({ learning_rate: "1e30" }),
    says: /leaves the grid.*learning rate|not a finite number/,
  },
];

describe("bad input ends in one line and exit code 2", () => {
  for (const refusal of REFUSALS) {
    test(refusal.name, async (t) => {
      const place = makeWorkplace(t);
      const changes = (await refusal.break(place)) ?? {};
      const words = wordsFor(place, changes);
      assertRefused(await (refusal.env ? apart(words, { env: refusal.env }) : here(words)), refusal.says);
    });
  }
});

test("a run from a YAML file: its folder, its metrics, and its config.json as the settings of another run", async (t) => {
  const place = makeWorkplace(t);
  const file = join(place.folder, "run.yaml");
  writeFileSync(
    file,
    [
      "# a comment",
      `model: ${place.model}`,
      `train_file: ${place.rows}`,
      "validation_rows: 2",
      `output_dir: ${place.out()}`,
      "max_length: 64",
      "max_steps: 4",
      "save_steps: 2",
      "gamma: -0.5",
      "learning_rate: 5.0e-3",
      "per_device_train_batch_size: 1",
      "threads: 1",
      "compute_dtype: float32",
      "",
    ].join("\n"),
  );
  const { code, out, err } = await apart(["train", file]);
  assert.deepEqual([code, err], [0, ""]);
  assert.match(out, /^gamma +-0\.5$/m);
  assert.match(
    out,
    /^network: momentum\(-0\.5\), reversible, streams int32\/16, 1 stored bits per element and block$/m,
  );
  assert.match(out, /^warning: momentum\(-0\.5\) begins at a held-out loss of \d\S+, the pretrained network at \d/m);
  assert.match(out, /^step 4\/4 {2}loss \d/m);
  assert.match(out, /^saved \S+\/run\/final$/m);
  assert.match(out, /^peak of a step: .* = .* weights \+ /m);

  assert.deepEqual(readdirSync(place.out()).sort(), [
    "checkpoint-2",
    "checkpoint-4",
    "config.json",
    "final",
    "metrics.jsonl",
    "plan.json",
    "run.json",
  ]);
  assert.deepEqual(readdirSync(join(place.out(), "checkpoint-2")).sort(), [
    "config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "revmoe-manifest.json",
    "revmoe.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
  ]);
  const events = metricsOf(place.out());
  const begun = events.findIndex(({ kind }) => kind === "eval");
  const atStart = events.slice(0, begun).map((event) => (event.kind === "message" ? event.message : event.kind));
  assert.match(atStart.join("\n"), /^engine: .*\nmodel: .*\nnetwork: [\s\S]*\nsteps: 4; .*\nplan of a step: .* = .*$/);
  const plan = JSON.parse(readFileSync(join(place.out(), "plan.json"), "utf8")) as Record<string, unknown>;
  const [step] = events.filter(({ kind }) => kind === "step") as unknown as Record<string, number>[];
  // Each term that is planned is measured.
  assert.deepEqual([plan.totalSteps, Object.keys(plan.memory as object).every((term) => term in step)], [4, true]);
  const kinds = events.slice(begun).map((event) => `${event.kind} ${event.step}`);
  assert.deepEqual(kinds, [
    ...[
      "eval 0",
      "eval 0",
      "message 0",
      "step 1",
      "step 2",
      "message 2",
      "step 3",
      "step 4",
      "eval 4",
      "message 4",
      "eval 4",
      "message 4",
    ],
  ]);
  const settings = JSON.parse(readFileSync(join(place.out(), "config.json"), "utf8")) as Record<string, unknown>;
  assert.deepEqual([settings.gamma, settings.max_steps, settings.seed], [-0.5, 4, 42]);

  const again = await here(["train", join(place.out(), "config.json"), "--output-dir", place.out("again")]);
  assert.deepEqual([again.code, again.err], [0, ""]);
  assert.deepEqual(stepsOf(place.out("again")), stepsOf(place.out()));
  assert.deepEqual(weightsOf(join(place.out("again"), "final")), weightsOf(join(place.out(), "final")));
});

test("Ctrl-C saves a checkpoint after the step, says how to go on, and that works", async (t) => {
  const place = makeWorkplace(t);
  const { code, out, err } = await apart(wordsFor(place, { max_steps: "100000" }), { interruptAt: /^step 2\//m });
  assert.equal(code, 130);
  assert.equal(
    err,
    "stopping: a checkpoint is saved when this step ends; once more to leave at once, without this step\n",
  );
  const [, folder, step] =
    /^stopped; go on with: revmoe train \.\.\. --resume (\S+\/checkpoint-(\d+))$/m.exec(out) ?? assert.fail(out);
  assert.deepEqual(readdirSync(place.out()).sort(), [
    `checkpoint-${step}`,
    "config.json",
    "metrics.jsonl",
    "plan.json",
    "run.json",
  ]);
  const done = stepsOf(place.out());
  assert.equal(done.length, Number(step));

  const last = Number(step) + 2;
  const resumed = await here(wordsFor(place, { max_steps: String(last), resume: folder }));
  assert.deepEqual([resumed.code, resumed.err], [0, ""]);
  assert.match(resumed.out, new RegExp(`^steps: ${last}, resuming after step ${step};`, "m"));
  const steps = stepsOf(place.out());
  assert.deepEqual(
    steps.map(([number]) => number),
    Array.from({ length: last }, (_, i) => i + 1),
  );
  assert.deepEqual(steps.slice(0, done.length), done);
});

test("overwriting a run forgets its lines and its checkpoints", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 9 }), { stopAt: 8 });
  writeFileSync(join(place.out(), "metrics.jsonl"), '{"kind":"message","step":8,"message":"old","level":"info"}\n');
  const { code, err } = await here([...wordsFor(place, { save_steps: "1" }), "--overwrite-output-dir"]);
  assert.deepEqual([code, err], [0, ""]);
  assert.deepEqual(readdirSync(place.out()).sort(), [
    "checkpoint-1",
    "checkpoint-2",
    "config.json",
    "final",
    "metrics.jsonl",
    "plan.json",
    "run.json",
  ]);
  assert.deepEqual(
    stepsOf(place.out()).map(([step]) => step),
    [1, 2],
  );
  assert.ok(!readFileSync(join(place.out(), "metrics.jsonl"), "utf8").includes("old"));
});

test("a disk that fills up between steps: said, the run goes on, and what was saved before is whole", async (t) => {
  const place = makeWorkplace(t);
  const disk = place.out("disk");
  mkdirSync(disk);
  // A checkpoint takes a third of a MiB: the third does not fit.
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).status !== 0) {
    t.skip("a small disk cannot be mounted (needs root)");
    return;
  }
  try {
    const output_dir = join(disk, "run");
    const ended = await here(wordsFor(place, { output_dir, max_steps: "9", save_steps: "1" }));
    assert.deepEqual([ended.code, ended.err], [0, ""]);
    assert.match(
      ended.out,
      /^note: all checkpoints and the result need .*, but .* are free on the disk of .*save_total_limit/m,
    );
    assert.match(
      ended.out,
      /^warning: .*checkpoint-3\S*: cannot be written: the disk is full \(.* needed, .* free\)\. .* Nothing that was saved before was touched\. Training goes on; the newest checkpoint is \S+checkpoint-2, from which resume: latest goes on; the next try is at step 4\.$/m,
    );
    assert.deepEqual(readdirSync(output_dir).sort(), [
      "checkpoint-1",
      "checkpoint-2",
      "config.json",
      "final",
      "metrics.jsonl",
      "plan.json",
      "run.json",
    ]);
    assert.equal(stepsOf(output_dir).length, 9);
    const whole = await runTraining(settingsFor(place, { max_steps: 9, output_dir: place.out("whole") }));
    const resumed = await runTraining(
      settingsFor(place, { max_steps: 9, output_dir: place.out(), resume: join(output_dir, "checkpoint-2") }),
    );
    assert.deepEqual(
      [
        ...stepsOf(output_dir)
          .slice(0, 2)
          .map(([, loss]) => loss),
        ...resumed.losses,
      ],
      whole.losses,
    );
    rmSync(output_dir, { recursive: true });
  } finally {
    assert.equal(spawnSync("umount", [disk]).status, 0);
  }
});

test("--help needs no engine and has an example", async () => {
  const { code, out, err } = await apart(["train", "--help"], { env: { LIBTORCH: "/nonexistent" } });
  assert.deepEqual([code, err], [0, ""]);
  assert.match(out, /^Usage: revmoe train \[CONFIG\.yaml\]/m);
  assert.match(out, /^Example:\n {2}revmoe train --model \S+ --train-file /m);
  assert.match(out, /^ +--learning-rate X/m);
});
