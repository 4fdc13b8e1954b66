// `revmoe plan` as a person runs it, and a run that is out of memory, leaves its checkpoint whole and goes on from it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { makeWorkplace, weightsOf } from "../../train/testing-run.js";
import { revmoe } from "../../cli/testing-command.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));
const FOLDER = fileURLToPath(new URL("../../../test/golden/hf-tiny", import.meta.url));
const SMALL = ["--model", FOLDER, "--max-length", "32", "--compute-dtype", "float32", "--threads", "1"];

/** As a process of its own. */
const apart = (...words: string[]) => spawnSync(process.execPath, [CLI, ...words], { encoding: "utf8" });

test("a plan names its terms and spans; --json is one document", async () => {
  const plain = apart("plan", ...SMALL);
  assert.deepEqual([plain.status, plain.stderr], [0, ""]);
  for (const term of [
    "weights",
    "optimizer state",
    "stored bits",
    "routing",
    "working set",
    "feed-forward, backward",
  ]) {
    assert.match(plain.stdout, new RegExp(`^${term} +[\\d.]+ [KMG]?i?B$`, "m"));
  }
  const document = JSON.parse((await revmoe("plan", ...SMALL, "--json")).stdout) as {
    terms: Record<string, number>;
    spans: { bytes: number }[];
    processBytes: number;
  };
  const { peakBytes, ...terms } = document.terms;
  assert.equal(
    Object.values(terms).reduce((sum, bytes) => sum + bytes, 0),
    peakBytes,
  );
  assert.equal(document.spans[0].bytes, peakBytes);
  assert.match(plain.stdout, /^and about [\d.]+ MiB of main memory for Node, the engine and freed blocks/m);
  // Node and libtorch take tens of megabytes, and 64 MiB of freed blocks may be kept.
  assert.ok(document.processBytes > 100 * 2 ** 20, `${document.processBytes}`);
});

test("of several ranks it is the plan of one, with what it sends", async () => {
  const shared = ["plan", ...SMALL, "--parameters", "sharded"];
  const read = async (...words: string[]) =>
    JSON.parse((await revmoe(...words, "--json")).stdout) as {
      terms: { weightBytes: number };
      ranks: { count: number; sentBytes: number };
    };
  const alone = await read("plan", ...SMALL);
  const two = await read(...shared, "--ranks", "2");
  assert.deepEqual([alone.ranks, two.ranks.count], [{ count: 1, sentBytes: 0, notes: [] }, 2]);
  assert.ok(two.ranks.sentBytes > alone.terms.weightBytes);
  assert.ok(two.terms.weightBytes < 0.75 * alone.terms.weightBytes);
  assert.match(
    (await revmoe(...shared, "--ranks", "2")).stdout,
    /^as one of 2 ranks, each of which sends [\d.]+ [KM]iB to others/m,
  );
  assert.match(
    (await revmoe(...shared, "--ranks", "2", "--share-experts", "rows")).stdout,
    /^share_experts rows: experts stay on their ranks, .* rows are less below \d+ tokens; gradients are added as rank_sums direct has them$/m,
  );
  const files = (await read("plan", ...SMALL, "--parameters", "sharded-disk", "--ranks", "2")) as { placed?: object };
  assert.deepEqual(Object.keys(files.placed ?? {}), ["deviceBytes", "hostBytes", "diskBytes"]);
  const linked = await revmoe("plan", ...SMALL, "--ranks", "64", "--link", "50GB/s", "--memory", "8GiB");
  assert.match(linked.stdout, /^layouts of 64 ranks, each with 8\.00 GiB of main memory, .* and a link of 50GB\/s$/m);
  for (const name of ["replicas", "shares in memory", "shares in files"])
    assert.match(linked.stdout, new RegExp(`^${name} .* % +~`, "m"));
  const [, command] =
    /^the fastest that fits, on each of the 64 ranks .*: revmoe train (.*) --train-file/m.exec(linked.stdout) ?? [];
  const again = await revmoe("plan", ...command.split(" "), "--ranks", "64");
  assert.equal(again.status, 0, again.stderr);
  for (const [words, says] of [
    [
      ["plan", ...SMALL, "--link", "1GB/s"],
      /^revmoe: --link 1GB\/s has no effect: one process sends nothing\. Set ranks/,
    ],
    [
      [...shared, "--ranks", "2", "--link", "1GB/s", "--share-experts", "auto"],
      /--share-experts auto is of one plan, and --link 1GB\/s compares both ways/,
    ],
    [["plan", ...SMALL, "--ranks", "2", "--link", "0GB/s"], /--link 0GB\/s carries nothing \(expected a speed/],
    [["plan", ...SMALL, "--ranks", "2", "--link", "1GB"], /--link 1GB is not possible \(expected a speed such as 50GB/],
    [["plan", ...SMALL, "--ranks", "2", "--link", "1GB/s", "--gpu", "H100"], /--gpu H100 looks at one process/],
    [["plan", ...SMALL, "--ranks", "2", "--memory", "1GB"], /--memory 1GB looks at one process/],
    [shared, /^revmoe: parameters: sharded shares them out over ranks\. Say over how many, as ranks: 2\.\n$/],
    [
      ["plan", ...SMALL, "--ranks", "2", "--expert-group-size", "2"],
      /^revmoe: expert_group_size: 2 is for one process, and 2 ranks train here/,
    ],
    [
      ["plan", ...SMALL, "--ranks", "2", "--parameters", "disk", "--link", "1GB/s"],
      /^revmoe: parameters: disk is for one process/,
    ],
    [
      ["plan", ...SMALL, "--ranks", "2", "--link", "1GB/s", "--memory", "1kB", "--disk", "1kB"],
      /^revmoe: ranks: no layout of 2 fits/,
    ],
    [[...shared, "--ranks", "2", "--fit"], /--fit looks at one process, and --ranks 2 at one of several\. Remove one/],
  ] as const) {
    const { status, stderr } = await revmoe(...words);
    assert.deepEqual([status, says.test(stderr)], [2, true], stderr);
  }
});

test("--largest prints flags that train takes; too little is a sentence and exit code 2", async () => {
  const fits = await revmoe("plan", ...SMALL, "--largest", "--memory", "2MB", "--json");
  assert.equal(fits.status, 0, fits.stderr);
  const { flags, terms } = JSON.parse(fits.stdout) as {
    flags: { per_device_train_batch_size: number };
    terms: { peakBytes: number };
  };
  assert.ok(flags.per_device_train_batch_size > 1 && terms.peakBytes <= 2e6);
  const none = await revmoe("plan", ...SMALL, "--largest", "--memory", "1kB");
  assert.equal(none.status, 2);
  assert.match(none.stdout, /optimizer state/);
  assert.match(none.stderr, /^revmoe: largest: nothing fits 1000 B: 1 row of 32 tokens takes [\d.]+ KiB\. .*\n$/);
  const lean = await revmoe("plan", ...SMALL, "--largest", "--memory", "200kB", "--json");
  const { waysToFit } = JSON.parse(lean.stdout) as { waysToFit: string[] };
  assert.ok(waysToFit.length > 0, lean.stderr);
  for (const way of waysToFit) {
    const flags = way.replace(/ \(.*/, "").split(" ");
    const again = await revmoe(
      "plan",
      "--model",
      FOLDER,
      "--compute-dtype",
      "float32",
      "--threads",
      "1",
      ...flags,
      "--json",
    );
    const { placed } = JSON.parse(again.stdout) as { placed: { deviceBytes: number } };
    assert.ok(placed.deviceBytes <= 200_000, `${way}: ${placed.deviceBytes}`);
  }
  const told = await revmoe("plan", ...SMALL, "--largest", "--memory", "1kB", "--json");
  assert.equal(told.status, 2);
  assert.equal((JSON.parse(told.stdout) as { fits: boolean }).fits, false);
  const onCard = await revmoe("plan", ...SMALL, "--largest", "--gpu", "RTX 4090", "--json");
  assert.equal(onCard.status, 0, onCard.stderr);
});

test("a machine that is described gets ways, whose commands can be planned and run; none is a sentence and exit code 2", async () => {
  const { status, stdout, stderr } = await revmoe(
    "plan",
    ...SMALL,
    "--gpu",
    "24GiB",
    "--memory",
    "8GiB",
    "--disk",
    "1TB",
  );
  assert.deepEqual([status, stderr], [0, ""]);
  assert.match(stdout, /^on a machine with a card as fast as RTX \d+ with 24\.0 GiB free, 8\.00 GiB of main memory/);
  const [command] = /^ {2}revmoe train .*$/m.exec(stdout) as RegExpExecArray;
  const words = command.trim().split(" ").slice(2, -4);
  assert.equal((await revmoe("plan", ...words)).status, 0);
  const { ways } = JSON.parse((await revmoe("plan", ...SMALL, "--fit", "--json")).stdout) as {
    ways: { flags: string }[];
  };
  assert.ok(ways.length > 0);
  const none = await revmoe("plan", ...SMALL, "--memory", "10kB", "--disk", "1kB");
  assert.equal(none.status, 2);
  assert.match(none.stderr, /^revmoe: no way to take a step of rows of 32 tokens fits 9\.77 KiB of main memory, .*\n$/);
});

test("train --fit takes the first way, says what it changes, and leaves what is given", async (t) => {
  const place = makeWorkplace(t);
  const work = ["--model", place.model, "--train-file", place.rows, "--save-steps", "1", "--fit"];
  const { status, stdout, stderr } = await revmoe(
    "train",
    ...work,
    "--output-dir",
    place.out("fit"),
    "--max-steps",
    "1",
    "--optimizer",
    "lion",
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^fit: method store, coupling ordinary.*planned on cpu$/m);
  const config = JSON.parse(readFileSync(join(place.out("fit"), "config.json"), "utf8")) as Record<string, unknown>;
  assert.deepEqual([config.method, config.optimizer, config.fit], ["store", "lion", false]);
  const again = await revmoe(
    "train",
    ...work,
    "--output-dir",
    place.out("fit"),
    "--max-steps",
    "2",
    "--resume",
    "latest",
    "--optimizer",
    "lion",
  );
  assert.equal(again.status, 0, again.stderr);
  assert.doesNotMatch(again.stdout, /^fit: /m, "what was chosen stays");
  const unknown = await revmoe("train", ...work, "--output-dir", place.out("never"), "--resume", "latest");
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /^revmoe: [^\n]+\n$/);
  const none = await revmoe("train", ...work, "--output-dir", place.out("none"), "--memory-limit", "10kB");
  assert.equal(none.status, 2);
  assert.match(none.stderr, /^revmoe: fit: no way to take a step of rows of \d+ tokens fits .*\n$/);
});

test("--compare draws what it tabulates", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-plan-command-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const svg = join(folder, "plan.svg");
  const { status, stdout, stderr } = await revmoe(
    "plan",
    ...SMALL,
    "--compare",
    "--svg",
    svg,
    "--expert-group-size",
    "2",
  );
  assert.deepEqual([status, stderr], [0, ""]);
  assert.match(stdout, /^reversible, momentum -1 /m);
  assert.match(readFileSync(svg, "utf8"), /^<svg /);
});

const REFUSED: [string[], RegExp][] = [
  [["--memory", "much"], /--memory much is not possible \(expected a size such as 8GiB or 500MB\)/],
  [["--svg", "x.svg"], /--svg x\.svg has nothing to draw.*Add compare/],
  [["--compare", "--coupling", "additive"], /--coupling additive has no effect: --compare.* shows all of them/],
  [["--compare", "--memory", "1GiB"], /--compare looks at one work or way, and --memory 1GiB chooses it/],
  [["--calibrate", "--gpu", "H100"], /--calibrate looks at one work or way, and --gpu H100 chooses it/],
  [["--largest"], /--largest needs a limit\. Add memory, or gpu/],
  [["--largest", "--memory", "1GiB", "--disk", "1GiB"], /--disk 1GiB has no effect/],
  [["--gpu", "Voodoo"], /gpu: "Voodoo" is not known \(expected RTX/],
  [["--gpu", "H100", "--device", "cpu"], /--gpu H100 has no effect: --device cpu computes on the processor/],
  [["--disk", "0GiB"], /--disk 0GiB leaves no room/],
  [["--coupling", "ordinary"], /--coupling ordinary cannot be reversed/],
  [["--train-file", "a.jsonl"], /--train-file is unknown\. A plan needs no rows/],
  [["--calibrate", "--compare"], /--calibrate times one way of training, and --compare shows all of them/],
  [["--expert-group-size", "2", "--method", "store"], /--expert-group-size 2 is not possible with --method store/],
  [["--calibrate", "--device", "cuda"], /--calibrate times this machine's processor/],
];
for (const [words, pattern] of REFUSED) {
  test(`refused: ${words.join(" ")}`, async () => {
    const { status, stderr } = await revmoe("plan", ...SMALL, ...words);
    assert.equal(status, 2);
    assert.match(stderr, pattern);
    assert.match(stderr, /^revmoe: [^\n]+\n$/);
  });
}

test("a run out of memory says what would fit, and its last checkpoint goes on to the same weights", async (t) => {
  const place = makeWorkplace(t);
  const train = (out: string, ...more: string[]) =>
    revmoe(
      "train",
      ...[
        "--model",
        place.model,
        "--train-file",
        place.rows,
        "--output-dir",
        out,
        "--max-length",
        "64",
        "--max-steps",
        "4",
      ],
      ...more,
    );
  const common = [
    "--save-steps",
    "2",
    "--threads",
    "1",
    "--compute-dtype",
    "float32",
    "--learning-rate",
    "5e-3",
    "--per-device-train-batch-size",
    "2",
  ];
  const whole = await train(place.out("whole"), ...common);
  assert.equal(whole.status, 0, whole.stderr);
  const peak = /^plan of a step: .* highest in: /m;
  assert.match(whole.stdout, peak);
  assert.doesNotMatch(whole.stdout, /planned were/);

  const broken = place.out("broken");
  cpSync(place.out("whole"), broken, { recursive: true });
  // As if it had ended after its second step.
  for (const name of ["final", "checkpoint-4"]) rmSync(join(broken, name), { recursive: true });
  const short = await train(broken, ...common, "--resume", "latest", "--memory-limit", "560KB");
  assert.equal(short.status, 2, short.stdout);
  assert.match(
    short.stderr,
    /^revmoe: cpu: out of memory in [^\n]+ asked, [^\n]+ in use, [^\n]+memory_limit 560KB[^\n]+\n$/,
  );
  assert.match(short.stderr, /These would fit: \w+: /);
  assert.match(short.stderr, /checkpoint-2 is whole: go on from it with resume: latest\.\n$/);
  const on = await train(broken, ...common, "--resume", "latest");
  assert.equal(on.status, 0, on.stderr);
  assert.ok(existsSync(join(broken, "final")));
  assert.deepEqual(weightsOf(join(broken, "final")), weightsOf(join(place.out("whole"), "final")));
});
