// Which folders a run writes to, and what it removes and puts right there.
import assert from "node:assert/strict";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";

import { writeMarker } from "../../checkpoint/run/marker.js";
import { checkRunFolder, openRunFolder } from "./run-folder.js";
import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../testing-run.js";

const listOf = (dir: string): string[] => readdirSync(dir).sort();

/** As a person begins a run, who does not overwrite unless asked. */
const asked = (place: Workplace, changes: Partial<TrainSettings> = {}): TrainSettings =>
  settingsFor(place, { overwrite_output_dir: false, ...changes });

/** Everything below a folder with its content. */
const contentOf = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const path = join(dir, name);
      return `${name} ${statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path, "base64") : ""}`;
    });

function linked(to: string, place: Workplace): string {
  symlinkSync(to, place.out("link"));
  return place.out("link");
}

function holding(file: string, place: Workplace): string {
  mkdirSync(place.out("project"));
  writeFileSync(join(place.out("project"), file), "{}");
  return place.out("project");
}

function copied({ model, out }: Workplace): string {
  cpSync(model, out("other"), { recursive: true });
  return out("other");
}

const FOREIGN: [string, (place: Workplace) => string, RegExp][] = [
  ["the model's folder", ({ model }) => model, /is the folder of the model/],
  ["a link to it", (place) => linked(place.model, place), /is the folder of the model/],
  ["it by way of another", ({ model }) => `${relative(process.cwd(), model)}/../model/`, /is the folder of the model/],
  ["a new folder in it", ({ model }) => join(model, "runs/a"), /lies in the folder of the model/],
  [
    "a new folder behind a link",
    (place) => join(linked(place.model, place), "new/run"),
    /lies in the folder of the model/,
  ],
  [
    "a link to a new folder in it",
    (place) => linked(join(place.model, "new"), place),
    /lies in the folder of the model/,
  ],
  ["another model", copied, /holds the weights of a model/],
  ["a person's project", (place) => holding("README.md", place), /holds README\.md and is not the folder of a run/],
  ["one with a config.json of its own", (place) => holding("config.json", place), /holds config\.json and is not/],
  ["one with metrics of its own", (place) => holding("metrics.jsonl", place), /holds metrics\.jsonl and is not/],
  ["one with a run.json of another program", (place) => holding("run.json", place), /holds run\.json and is not/],
  ["one with more such names", (place) => holding("run.json.old", place), /holds run\.json\.old and is not/],
  ["a file", ({ rows }) => rows, /is a file/],
];
for (const [name, make, message] of FOREIGN) {
  test(`a run does not write to ${name}, also to overwrite or to resume`, async (t) => {
    const place = makeWorkplace(t);
    const output_dir = make(place);
    const before = contentOf(place.folder);
    for (const changes of [{}, { overwrite_output_dir: true }, { resume: "latest" }]) {
      const settings = asked(place, { output_dir, ...changes });
      assert.throws(() => checkRunFolder(settings), { name: "UserError", message });
      await assert.rejects(runTraining(settings), { name: "UserError", message });
    }
    assert.deepEqual(contentOf(place.folder), before);
  });
}

test("what a cut save left is not resumed from, and not removed by asking for it", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(asked(place, { max_steps: 2, save_steps: 1 }));
  for (const name of ["checkpoint-1.partial", "final.partial", "checkpoint-1.revmoe-previous"]) {
    const resume = join(place.out(), name);
    cpSync(join(place.out(), "checkpoint-1"), resume, { recursive: true });
    const before = contentOf(place.folder);
    const settings = asked(place, { resume: `${resume}/`, max_steps: 3 });
    await assert.rejects(runTraining(settings), { name: "UserError", message: /is what a save that was cut off left/ });
    assert.deepEqual(contentOf(place.folder), before);
    rmSync(resume, { recursive: true });
  }
});

test("neither a run nor another model is written into what a run saves", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(asked(place, { max_steps: 2, save_steps: 1 }));
  const before = contentOf(place.folder);
  for (const part of ["final", "checkpoint-1", "checkpoint-1/deeper", "working", "checkpoint-77"]) {
    const settings = asked(place, { output_dir: join(place.out(), part), overwrite_output_dir: true });
    assert.throws(() => checkRunFolder(settings), {
      name: "UserError",
      message: /is, or lies in, \S+ of the run in|holds the weights/,
    });
  }
  assert.deepEqual(contentOf(place.folder), before);
  // On from its result: elsewhere, and in a folder of its own beside it.
  for (const output_dir of [place.out("second"), join(place.out(), "second")]) {
    await runTraining(asked(place, { model: join(place.out(), "final"), output_dir, max_steps: 1 }));
  }
});

test("a refused run leaves nothing, not even the folder", async (t) => {
  const place = makeWorkplace(t);
  const tokenizer = join(place.model, "tokenizer.json");
  // A token that the model does not have is found when the working copy is there already.
  writeFileSync(tokenizer, readFileSync(tokenizer, "utf8").replace('"m": 14', '"m": 90'));
  const wrong: Partial<TrainSettings>[] = [{ validation_rows: 99 }, { resume: "latest" }, { parameters: "disk" }];
  for (const changes of wrong) {
    await assert.rejects(runTraining({ ...asked(place, { output_dir: place.out("a/b/c") }), ...changes }), {
      name: "UserError",
    });
    assert.deepEqual(listOf(place.folder), ["model", "rows.jsonl"]);
  }
});

test("a folder with a run is refused with what can be done, and one of an earlier version is known", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(asked(place, { max_steps: 2, save_steps: 1 }));
  const message =
    /already holds a run\. Choose another folder, go on with resume: latest, or start anew with overwrite/;
  await assert.rejects(runTraining(asked(place)), { name: "UserError", message });
  const elsewhere = /already holds a run, and \S+checkpoint-1 is of another\./;
  cpSync(join(place.out(), "checkpoint-1"), place.out("other/checkpoint-1"), { recursive: true });
  await assert.rejects(runTraining(asked(place, { resume: place.out("other/checkpoint-1") })), {
    name: "UserError",
    message: elsewhere,
  });
  rmSync(join(place.out(), "run.json"));
  await assert.rejects(runTraining(asked(place)), { name: "UserError", message });
  await runTraining(asked(place, { resume: "latest", max_steps: 3 }));
  assert.deepEqual(listOf(place.out()), ["checkpoint-1", "checkpoint-2", "final", "run.json"]);
});

async function makeOldRun(place: Workplace): Promise<void> {
  const disk = asked(place, { parameters: "disk", durability: "step", max_steps: 4, save_steps: 1 });
  await runTraining(disk);
  // As a kill leaves it.
  const run = place.out();
  cpSync(join(run, "checkpoint-3"), join(run, "working"), { recursive: true });
  mkdirSync(join(run, "checkpoint-9.partial"));
  mkdirSync(join(run, "final.revmoe-previous"));
  writeFileSync(join(run, "metrics.jsonl"), '{"kind":"message","step":3,"message":"old","level":"info"}\n');
  writeFileSync(join(run, "config.json"), "{}");
  writeFileSync(join(run, "notes.txt"), "mine");
}

test("overwriting removes all that is the run's, once the new one can begin, and nothing else", async (t) => {
  const place = makeWorkplace(t);
  await makeOldRun(place);
  const before = contentOf(place.folder);
  await assert.rejects(runTraining(asked(place, { overwrite_output_dir: true, validation_rows: 99 })), {
    name: "UserError",
  });
  assert.deepEqual(contentOf(place.folder), before);
  const look = (): void => assert.deepEqual(listOf(place.out()), ["notes.txt", "run.json", "run.lock"]);
  await runTraining(asked(place, { overwrite_output_dir: true, max_steps: 1 }), { look });
  assert.deepEqual(listOf(place.out()), ["final", "notes.txt", "run.json"]);
});

test("overwriting that was cut off leaves nothing that a resume takes for a run", async (t) => {
  const place = makeWorkplace(t);
  await makeOldRun(place);
  const run = place.out();
  const parts = listOf(run).filter((name) => name !== "notes.txt" && name !== "run.json");
  for (let removed = 0; removed <= parts.length; removed++) {
    cpSync(run, place.out("cut"), { recursive: true });
    writeMarker(place.out("cut"), { replacing: true });
    for (const name of parts.slice(0, removed)) rmSync(join(place.out("cut"), name), { recursive: true });
    const settings = asked(place, {
      output_dir: place.out("cut"),
      parameters: "disk",
      durability: "step",
      max_steps: 1,
    });
    await assert.rejects(runTraining({ ...settings, resume: "latest" }), {
      name: "UserError",
      message: /no complete checkpoint-N/,
    });
    assert.deepEqual(listOf(place.out("cut")), ["notes.txt", "run.json"]);
    await runTraining(settings);
    rmSync(place.out("cut"), { recursive: true });
  }
});

test("what is trained from is not overwritten, however it is named, and neither is what a person put there", async (t) => {
  const place = makeWorkplace(t);
  await makeOldRun(place);
  const run = place.out();
  symlinkSync(join(run, "checkpoint-2"), place.out("link"));
  const rows = join(run, "working", "rows.jsonl");
  cpSync(place.rows, rows);
  for (const changes of [
    { model: place.out("link") },
    { model: `${run}/./final/` },
    { train_file: rows },
    { train_file: `${place.rows}:1,${rows}:2` },
    { validation_file: `${run}/working/*.jsonl[:5]` },
  ] as Partial<TrainSettings>[]) {
    const settings = asked(place, { overwrite_output_dir: true, ...changes });
    assert.throws(() => checkRunFolder(settings), {
      name: "UserError",
      message: /of the run that overwrite_output_dir removes/,
    });
  }
  for (const file of ["final/README.md", "checkpoint-1/plots", "checkpoint-2/model.ckpt"]) {
    mkdirSync(join(run, file));
    const message = new RegExp(`${file} was not written by a run`);
    assert.throws(() => checkRunFolder(asked(place, { overwrite_output_dir: true })), { name: "UserError", message });
    rmSync(join(run, file), { recursive: true });
  }
});

test("what a killed save left is put right and said", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(asked(place, { max_steps: 2, save_steps: 1 }));
  const run = place.out();
  for (const name of ["checkpoint-2.partial", "final.partial"]) mkdirSync(join(run, name));
  for (const name of ["checkpoint-1", "final"])
    cpSync(join(run, name), join(run, `${name}.revmoe-previous`), { recursive: true });
  rmSync(join(run, "final"), { recursive: true });
  const { notes, close } = openRunFolder(asked(place, { resume: "latest" }));
  close();
  assert.deepEqual(notes, [
    `${join(run, "final")} is the one from before: a save that was to replace it was cut off`,
    `removed checkpoint-2.partial, which a save that was cut off left in ${run}`,
    `removed final.partial, which a save that was cut off left in ${run}`,
  ]);
  assert.deepEqual(listOf(run), ["checkpoint-1", "checkpoint-2", "final", "run.json"]);
});

test("a working copy that was never ready is no run: a new one may begin there, and it is said", async (t) => {
  const place = makeWorkplace(t);
  mkdirSync(place.out());
  writeMarker(place.out(), { replacing: false });
  mkdirSync(join(place.out(), "working"));
  writeFileSync(join(place.out(), "working", "head.safetensors"), "");
  for (const rank of [0, 12]) mkdirSync(join(place.out(), `working-rank-${rank}`));
  mkdirSync(join(place.out(), "working-rank-one"));
  const { notes, close } = openRunFolder(asked(place));
  close();
  assert.match(notes[0], /^removed \S+working, from which no run can go on: it was killed before/);
  assert.match(notes[1], /^removed what ranks that were killed left in \S+: working-rank-0, working-rank-12$/);
  rmdirSync(join(place.out(), "working-rank-one"));
  await runTraining(asked(place, { max_steps: 1, parameters: "disk" }));
  assert.deepEqual(listOf(place.out()), ["final", "run.json"]);
});

test("a second run in the folder is refused while the first is at work, which is not disturbed", async (t) => {
  const place = makeWorkplace(t);
  const whole = await runTraining(asked(place, { output_dir: place.out("whole"), max_steps: 3 }));
  const settings = asked(place, { parameters: "disk", durability: "step", max_steps: 3, save_steps: 1 });
  const inUse = { name: "UserError", message: new RegExp(`is in use by process ${process.pid} on`) };
  const { outcome } = await runTraining(settings, {
    look: () => {
      for (const changes of [{}, { resume: "latest" }, { overwrite_output_dir: true }]) {
        assert.throws(() => openRunFolder({ ...settings, ...changes }), inUse);
      }
      symlinkSync(place.out(), place.out("link"));
      assert.throws(() => openRunFolder({ ...settings, output_dir: place.out("link") }), inUse);
    },
  });
  const weights = (folder: string): Buffer => readFileSync(join(folder, "model.safetensors"));
  assert.deepEqual(weights(outcome.folder), weights(whole.outcome.folder));
});

test("a run on disk that was killed says how to go on when parameters: disk is forgotten", async (t) => {
  const place = makeWorkplace(t);
  await makeOldRun(place);
  for (const step of [4, 2, 1]) rmSync(join(place.out(), `checkpoint-${step}`), { recursive: true, force: true });
  rmSync(join(place.out(), "checkpoint-3"), { recursive: true });
  const forgotten = asked(place, { resume: "latest" });
  const first =
    /working holds step 3 of this run, whose parameters were on disk and which has no checkpoint\. Set parameters to disk to go on from step 3\.$/;
  await assert.rejects(runTraining(forgotten), { name: "UserError", message: first });
  cpSync(join(place.out(), "working"), join(place.out(), "checkpoint-2"), { recursive: true });
  const second =
    /; the newest checkpoint is of step 2\. Set parameters to disk to go on from step 3, or name \S+checkpoint-2 to go back to it\.$/;
  await assert.rejects(runTraining(forgotten), { name: "UserError", message: second });
  const begin = /already holds a run\. .*go on with resume: latest/;
  await assert.rejects(runTraining(asked(place)), { name: "UserError", message: begin });
});
