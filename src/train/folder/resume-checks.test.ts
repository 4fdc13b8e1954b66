// A run goes on from what was saved, byte for byte, and with the data it began with; what has changed is named.
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { NotFiniteError } from "../../checkpoint/finite.js";
import { MANIFEST_FILE } from "../../checkpoint/files/manifest.js";
import { openSafetensors } from "../../checkpoint/safetensors/file.js";
import { UserError } from "../../errors.js";
import { fill_ } from "../../torch/ops.js";
import { freeRun, prepareRun, type Run } from "../prepare.js";
import type { TrainSettings } from "../settings/settings.js";
import { saveCheckpoint, saveFinal } from "./snapshot.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace, weightsOf } from "../testing-run.js";

/** Three steps with a checkpoint after each; the settings are those of a run that goes on to a fourth. */
async function ran(
  t: TestContext,
  changes: Partial<TrainSettings> = {},
): Promise<{ place: Workplace; settings: TrainSettings }> {
  const place = makeWorkplace(t);
  const settings = settingsFor(place, {
    overwrite_output_dir: false,
    max_steps: 4,
    save_steps: 1,
    save_total_limit: 0,
    ...changes,
  });
  await runTraining({ ...settings, max_steps: 3 });
  return { place, settings };
}

/** Prepares a run that goes on, and returns what it says beside its greater length. */
async function notesOf(settings: TrainSettings): Promise<{ notes: string[]; startStep: number }> {
  const run = await prepareRun(settings);
  const { notes, startStep } = run;
  freeRun(run);
  return { notes: notes.filter((note) => !/^the run was to have 3 steps/.test(note)), startStep };
}

async function refused(settings: TrainSettings, pattern: RegExp): Promise<void> {
  await assert.rejects(notesOf(settings), (failure: Error) => {
    assert.ok(failure instanceof UserError, failure.stack);
    assert.match(failure.message, pattern);
    assert.doesNotMatch(failure.message, /\n/);
    return true;
  });
}

/** Turns one bit in the last byte of a file. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(path, bytes);
}

for (const file of ["model.safetensors", "optimizer.safetensors", "trainer_state.json"]) {
  test(`a flipped bit in ${file}: the checkpoint is refused by name, and "latest" goes on from the one before it`, async (t) => {
    const { settings } = await ran(t);
    const [older, newest] = [2, 3].map((step) => join(settings.output_dir, `checkpoint-${step}`));
    flip(join(newest, file));
    await refused(
      { ...settings, resume: newest },
      new RegExp(`checkpoint-3/${file} has changed: its SHA-256 is .*newest that is whole, resume: ${older}$`),
    );
    const { notes, startStep } = await notesOf({ ...settings, resume: "latest" });
    assert.equal(startStep, 2);
    assert.match(notes[0], new RegExp(`checkpoint-3/${file} has changed: .* Going on from ${older} instead$`));
    flip(join(older, file));
    rmSync(join(settings.output_dir, "checkpoint-1"), { recursive: true });
    await refused(
      { ...settings, resume: "latest" },
      /checkpoint-3\/.* has changed.* Nor are the 1 before it whole\. Start anew/,
    );
    await refused({ ...settings, resume: newest }, /There is no whole checkpoint before it/);
  });
}

test("files that are cut off, missing or replaced are found; what a run does not need may change", async (t) => {
  const { settings } = await ran(t);
  const newest = join(settings.output_dir, "checkpoint-3");
  writeFileSync(join(newest, "tokenizer_config.json"), "{}");
  writeFileSync(join(newest, "README.md"), "card");
  assert.deepEqual(await notesOf({ ...settings, resume: "latest" }), { notes: [], startStep: 3 });
  rmSync(join(newest, "revmoe.json"));
  await refused({ ...settings, resume: newest }, /checkpoint-3\/revmoe\.json is missing\./);
  writeFileSync(join(newest, "config.json"), "{}");
  await refused({ ...settings, resume: newest }, /checkpoint-3\/config\.json has 2 bytes, \d+ when it was saved\./);
});

test("a manifest that is damaged is damage, and no missing one: resuming and loading refuse it", async (t) => {
  const { settings, place } = await ran(t);
  const [older, newest] = [2, 3].map((step) => join(settings.output_dir, `checkpoint-${step}`));
  const whole = readFileSync(join(newest, MANIFEST_FILE), "utf8");
  for (const text of [
    "",
    whole.slice(0, 200),
    whole.replace('"version": 1', '"version": 3'),
    whole.replace('"sha256": "', '"sha256": "x'),
  ]) {
    writeFileSync(join(newest, MANIFEST_FILE), text);
    await refused(
      { ...settings, resume: newest },
      /checkpoint-3\/revmoe-manifest\.json is damaged, or of a newer version\..*resume: .*checkpoint-2$/,
    );
    assert.match(
      (await notesOf({ ...settings, resume: "latest" })).notes[0],
      new RegExp(`is damaged, or of .* Going on from ${older} instead$`),
    );
    const model = join(settings.output_dir, "final");
    writeFileSync(join(model, MANIFEST_FILE), text);
    await refused(
      { ...settings, model, output_dir: place.out("again"), save_steps: 0 },
      /final\/revmoe-manifest\.json is damaged, or of/,
    );
  }
});

test("a place to resume from that is not there is named with the setting", async (t) => {
  const { settings } = await ran(t);
  for (const resume of ["nowhere", join(settings.output_dir, "checkpoint-9"), "Latest"]) {
    const elsewhere = { ...settings, output_dir: `${settings.output_dir}-2`, resume };
    await refused(
      elsewhere,
      /^resume: \S+ is not there \(expected a checkpoint-N folder, or "latest"\)\. Check the path\.$/,
    );
  }
});

test("fewer steps than are done already are refused, and the checkpoint stays", async (t) => {
  const { settings } = await ran(t);
  const resume = join(settings.output_dir, "checkpoint-3");
  for (const [changes, says] of [
    [{ max_steps: 1 }, "max_steps: 1 makes 1 steps"],
    [{ max_steps: 2, parameters: "disk" }, "max_steps: 2 makes 2 steps"],
    [{ max_steps: 0, num_train_epochs: 0.01 }, "num_train_epochs: 0.01 makes 1 steps"],
  ] as [Partial<TrainSettings>, string][]) {
    await refused(
      { ...settings, ...changes, resume },
      new RegExp(`^${says}, but .*checkpoint-3 has done 3\\. Ask for at least as many`),
    );
  }
  assert.equal((await notesOf({ ...settings, resume })).startStep, 3);
});

test("where no checkpoint is whole by its files, one that lacks some is named", async (t) => {
  const { settings } = await ran(t);
  for (const step of [1, 2, 3]) {
    const lost = ["optimizer.safetensors", "trainer_state.json", "model.safetensors"][step - 1];
    rmSync(join(settings.output_dir, `checkpoint-${step}`, lost));
    if (step < 3) assert.ok((await notesOf({ ...settings, resume: "latest" })).startStep > 0);
  }
  await refused(
    { ...settings, resume: "latest" },
    /no complete checkpoint-N folder in .* \(checkpoint-1 lacks files; revmoe verify .* names them\)\. Start anew/,
  );
});

test("a checkpoint of an older version goes on with a note; NaN in its optimizer state is named", async (t) => {
  const { settings } = await ran(t, { optimizer: "adamw" });
  const newest = join(settings.output_dir, "checkpoint-3");
  rmSync(join(newest, MANIFEST_FILE));
  const state = JSON.parse(readFileSync(join(newest, "trainer_state.json"), "utf8")) as object;
  writeFileSync(join(newest, "trainer_state.json"), JSON.stringify({ ...state, data: undefined }));
  const { notes } = await notesOf({ ...settings, resume: newest });
  assert.match(notes.join("\n"), /has no manifest .*\n.*does not say what it was trained on/);
  const path = join(newest, "optimizer.safetensors");
  const file = openSafetensors(path);
  const entry = [...file.entries.values()].find(({ dtype }) => dtype === "float32") ?? assert.fail("no float32");
  file.close();
  const bytes = readFileSync(path);
  bytes.writeUInt32LE(0x7fc00000, entry.begin);
  writeFileSync(path, bytes);
  await refused(
    { ...settings, resume: newest },
    /optimizer\.safetensors: \S+ holds NaN .*the optimizer state of this checkpoint is damaged/,
  );
});

test("weights of a saved model that changed are refused before training", async (t) => {
  const { settings, place } = await ran(t);
  const model = join(settings.output_dir, "final");
  const again = { ...settings, model, output_dir: place.out("again"), save_steps: 0 };
  await notesOf(again);
  writeFileSync(join(model, "generation_config.json"), "{}");
  await notesOf(again);
  flip(join(model, "model.safetensors"));
  await refused(
    again,
    /final\/model\.safetensors has changed: .*if the file was changed on purpose, remove .*revmoe-manifest\.json/,
  );
});

test("other rows, another order, another tokenizer and held-out rows that were trained on are refused, each by name", async (t) => {
  const { settings, place } = await ran(t);
  const resume = join(settings.output_dir, "checkpoint-2");
  const lines = readFileSync(place.rows, "utf8").trim().split("\n");
  const put = (name: string, rows: string[]): string => {
    writeFileSync(join(place.folder, name), `${rows.join("\n")}\n`);
    return join(place.folder, name);
  };
  const moved = put("moved.jsonl", lines);
  assert.deepEqual(
    (await notesOf({ ...settings, resume, train_file: moved, learning_rate: 1e-4, max_steps: 9 })).notes,
    [],
  );
  await refused(
    { ...settings, resume, train_file: put("more.jsonl", [...lines, lines[0]]) },
    /train_file is .*15 documents of \d+ tokens are trained on, 14 of \d+ before/,
  );
  const changed = put(
    "changed.jsonl",
    lines.map((line, i) => (i === 4 ? line.replace("The", "Teh") : line)),
  );
  await refused(
    { ...settings, resume, train_file: changed },
    /the first row that differs is .*changed\.jsonl:5\. Give the run's own data/,
  );
  const swapped = put("swapped.jsonl", [lines[0], lines[2], lines[1], ...lines.slice(3)]);
  await refused(
    { ...settings, resume, train_file: swapped },
    /the rows are in another order, first at .*swapped\.jsonl:2\./,
  );
  await refused(
    { ...settings, resume, validation_rows: 4 },
    /validation_rows is 4, 0 before; 10 documents of \d+ tokens are trained on, 14 of/,
  );
  await refused(
    { ...settings, resume, validation_file: put("held.jsonl", lines.slice(3, 5)) },
    /2 of the 2 held-out rows are not those of .*rows that it was trained on \(the first is .*held\.jsonl:1\)/,
  );
  assert.deepEqual(
    (await notesOf({ ...settings, resume, validation_file: put("new.jsonl", ['{"text":"new"}']) })).notes,
    [],
  );
  const tokenizer = join(place.model, "tokenizer.json");
  const text = readFileSync(tokenizer, "utf8");
  writeFileSync(tokenizer, JSON.stringify(JSON.parse(text)));
  assert.deepEqual((await notesOf({ ...settings, resume })).notes, [], "written otherwise, it is the same");
  writeFileSync(tokenizer, text.replace('"a":', '"tmp":').replace('"b":', '"a":').replace('"tmp":', '"b":'));
  await refused({ ...settings, resume }, /the tokenizer\.json of .*model is another one/);
});

/** The tensor that a run's weights are spoiled in. */
const spoil = (run: Run, value: number): void =>
  void fill_(run.state.network.model.blocks[1]["post_attention_layernorm.weight"], value);

for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
  test(`weights of ${value} are saved nowhere, and the last good checkpoint stays`, async (t) => {
    const { settings } = await ran(t, { save_total_limit: 1 });
    const { output_dir } = settings;
    const before = weightsOf(join(output_dir, "final"));
    const run = await prepareRun({ ...settings, resume: "latest" });
    t.after(() => freeRun(run));
    spoil(run, value);
    for (const save of [() => saveFinal(run), () => saveCheckpoint(run, 4)]) {
      assert.throws(save, (failure: Error) => {
        assert.ok(failure instanceof NotFiniteError && failure instanceof UserError);
        assert.match(
          failure.message,
          /^step 4: model\.layers\.1\.post_attention_layernorm\.weight holds (NaN|an infinite value) .*resume: .*checkpoint-3/,
        );
        return true;
      });
    }
    assert.deepEqual(
      readdirSync(output_dir).filter((name) => /checkpoint|partial/.test(name)),
      ["checkpoint-3"],
    );
    assert.ok(before.equals(weightsOf(join(output_dir, "final"))));
  });
}

test("an optimizer state of NaN is not saved either", async (t) => {
  const { settings } = await ran(t, { optimizer: "adamw" });
  const run = await prepareRun({ ...settings, resume: "latest" });
  t.after(() => freeRun(run));
  fill_(run.states.tensors()[0].tensor, Number.NaN);
  assert.throws(() => saveCheckpoint(run, 4), /^UserError: step 4: \S+ holds NaN|^Error: step 4: \S+ holds NaN/);
  assert.equal(existsSync(join(settings.output_dir, "checkpoint-4")), false);
});

test("the model's folder may go while a run goes on: tokenizer and text of config.json are kept from the start", async (t) => {
  const place = makeWorkplace(t);
  writeFileSync(join(place.folder, "outside"), "key");
  symlinkSync(join(place.folder, "outside"), join(place.model, "merges.txt"));
  const kept = join(place.folder, "kept");
  cpSync(place.model, kept, { recursive: true });
  const settings = settingsFor(place, { overwrite_output_dir: false, max_steps: 2, save_steps: 1 });
  let notes: string[] = [];
  const { outcome } = await runTraining(settings, {
    look: (run) => {
      notes = run.notes;
      rmSync(place.model, { recursive: true });
    },
  });
  for (const folder of [outcome.folder, join(settings.output_dir, "checkpoint-1")]) {
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      assert.deepEqual(readFileSync(join(folder, name)), readFileSync(join(kept, name)));
    }
    assert.equal(existsSync(join(folder, "merges.txt")), false);
  }
  assert.ok(
    notes.some((note) => /merges\.txt is a link to .*outside, outside the model's folder/.test(note)),
    notes.join(),
  );
});
