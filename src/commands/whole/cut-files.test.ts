// Commands whose mapped files another process cuts short, at each moment in which they are read: exit code 2, one sentence
// that names the file, nothing saved of what was made of it, and what was saved before is whole.
import assert from "node:assert/strict";
import { spawn, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { cpSync, existsSync, readdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { loadModel } from "../../checkpoint/load.js";
import { openSource } from "../../checkpoint/source.js";
import { UserError } from "../../errors.js";
import { freeModel } from "../../model/model.js";
import { makeWorkplace, type Workplace } from "../../train/testing-run.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));
const GOLDEN = fileURLToPath(new URL("../../../test/golden", import.meta.url));

interface Cut {
  file: string;
  /** When this is on stdout, or when a file whose path ends so is opened for writing. */
  when: { said: RegExp } | { opens: string };
}

/** Runs the command, empties the file at its moment, and returns what was said. */
function revmoe(
  words: string[],
  { file, when }: Cut,
): Promise<{ code: number | null; signal: string | null; err: string }> {
  const hook = `import fs from "node:fs"; import { syncBuiltinESMExports } from "node:module";
    const { openSync } = fs;
    fs.openSync = (path, flags, ...rest) => {
      if (flags !== "r" && String(path).endsWith(${JSON.stringify("opens" in when ? when.opens : "\n")})) fs.truncateSync(${JSON.stringify(file)});
      return openSync(path, flags, ...rest);
    };
    syncBuiltinESMExports();`;
  const child = spawn(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(hook)}`, CLI, ...words],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const before = out;
    out += text;
    if ("said" in when && when.said.test(out) && !when.said.test(before)) truncateSync(file);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  return new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, err })));
}

const STEPS = "5000";

/** Words of a run that would go on for long. */
const training = ({ model, rows, out }: Workplace, ...more: string[]): string[] => [
  ...[
    "train",
    "--model",
    model,
    "--train-file",
    rows,
    "--output-dir",
    out(),
    "--max-length",
    "64",
    "--max-steps",
    STEPS,
  ],
  ...["--per-device-train-batch-size", "1", "--threads", "2", "--compute-dtype", "float32", ...more],
];

const STEP_3 = { said: /step +3\b/ };
const DISK = ["--parameters", "disk", "--optimizer", "adamw", "--save-steps", "2"];
const MOMENTS: [string, (place: Workplace) => Cut & { words: string[] }][] = [
  [
    "loading",
    (place) => ({
      words: training(place, "--parameters", "disk"),
      file: join(place.model, "model.safetensors"),
      when: { opens: "working/head.safetensors" },
    }),
  ],
  ...["block-000", "block-001-state", "embedding"].map((name, i): (typeof MOMENTS)[number] => [
    `a step with ${name} on disk`,
    (place) => ({
      words: training(place, ...DISK, "--durability", ["snapshot", "step", "step"][i]),
      file: join(place.out(), "working", `${name}.safetensors`),
      when: STEP_3,
    }),
  ]),
  [
    "saving a checkpoint",
    (place) => ({
      words: training(place, ...DISK),
      file: join(place.out(), "working/block-000.safetensors"),
      when: { opens: "checkpoint-4.partial/model.safetensors" },
    }),
  ],
  [
    "a teacher's pass",
    (place) => ({
      words: training(place, "--distill-steps", "4000", "--save-steps", "2"),
      file: join(place.model, "model.safetensors"),
      when: STEP_3,
    }),
  ],
  [
    "export",
    (place) => ({
      words: ["export", "--model", place.model, "--output-dir", place.out()],
      file: join(place.model, "model.safetensors"),
      when: { opens: "run.partial/model.safetensors" },
    }),
  ],
];

for (const [moment, cutAt] of MOMENTS) {
  test(`cut short in ${moment}: a sentence, and nothing of it is saved`, async (t) => {
    const place = makeWorkplace(t);
    const { words, file, when } = cutAt(place);
    const { code, signal, err } = await revmoe(words, { file, when });
    assert.equal(code, 2, `${signal ?? ""} ${err}`);
    assert.match(err, /^revmoe: [^\n]*\n$/);
    assert.ok(err.startsWith(`revmoe: ${file}: was cut short or could not be read while it was used`), err);
    assert.ok(!existsSync(join(place.out(), "final")) && !existsSync(join(place.out(), "model.safetensors")));
    for (const name of existsSync(place.out()) ? readdirSync(place.out()) : []) {
      assert.doesNotMatch(name, /\.partial$/);
      if (/^checkpoint-/.test(name))
        freeModel(loadModel(join(place.out(), name), { weightsDtype: "auto", device: "cpu" }));
    }
    if (!words.includes("disk") || !existsSync(join(place.out(), "checkpoint-2"))) return;
    // The run goes on from what is whole: the working copy where its log can mend it, a checkpoint in any case.
    const steps = readdirSync(place.out()).map((name) => Number(/^checkpoint-(\d+)$/.exec(name)?.[1] ?? 0));
    const newest = Math.max(...steps);
    const resume = (from: string): SpawnSyncReturns<string> => {
      const shorter = words.map((word) => (word === STEPS ? String(newest + 3) : word));
      return spawnSync(process.execPath, [CLI, ...shorter, "--resume", from], { encoding: "utf8" });
    };
    const latest = resume("latest");
    if (latest.status !== 0) {
      assert.equal(latest.status, 2, latest.stderr);
      assert.match(latest.stderr, /^revmoe: [^\n]*working[^\n]*([Rr]esume|go on) from a checkpoint[^\n]*\n$/);
      assert.equal(resume(join(place.out(), `checkpoint-${newest}`)).status, 0);
    }
    assert.ok(existsSync(join(place.out(), "final/model.safetensors")));
  });
}

for (const name of ["hf-tiny", "gguf/hf-tiny.gguf", "saved/mixtral-5-bfloat16"]) {
  test(`${name} cut short between two tensors while it is loaded: a sentence, and nothing stays behind`, (t) => {
    const place = makeWorkplace(t);
    const copy = join(place.folder, name.replace("/", "-"));
    cpSync(join(GOLDEN, name), copy, { recursive: true });
    const source = openSource(copy);
    const weights = name.endsWith(".gguf")
      ? [copy]
      : readdirSync(copy)
          .filter((each) => each.endsWith(".safetensors"))
          .map((each) => join(copy, each));
    let reads = 0;
    const openWeights: typeof source.openWeights = () => {
      const folder = source.openWeights();
      const read: typeof folder.read = (tensor) => {
        if (++reads === 4) for (const path of weights) truncateSync(path);
        return folder.read(tensor);
      };
      return { ...folder, read };
    };
    assert.throws(() => loadModel({ ...source, openWeights }, { weightsDtype: "auto", device: "cpu" }), UserError);
    assert.ok(reads >= 4);
  });
}
