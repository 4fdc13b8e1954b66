// What a disk costs a run that has no room, or refuses: seen before the first step, or outlived.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../testing-run.js";

const listOf = (dir: string): string[] => readdirSync(dir).sort();

const asked = (place: Workplace, changes: Partial<TrainSettings> = {}): TrainSettings =>
  settingsFor(place, { overwrite_output_dir: false, ...changes });

test("a result that cannot be saved is seen before the first step", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(asked(place, { max_steps: 2, save_steps: 1 }));
  const final = join(place.out(), "final");
  const ways: [() => void, RegExp][] = [
    [() => mkdirSync(join(final, "plots")), /final stays, because it holds plots, .* Move it away/],
    [
      () => writeFileSync(join(final, "README.md"), "mine"),
      /final stays, because it holds README\.md, and no manifest/,
    ],
    [() => writeFileSync(final, "mine"), /final stays, because it is a file \(expected a folder\)/],
  ];
  for (const [block, message] of ways) {
    rmSync(final, { recursive: true, force: true });
    if (!/is a file/.test(message.source)) mkdirSync(final);
    block();
    const look = (): void => assert.fail("training began");
    await assert.rejects(runTraining(asked(place, { resume: "latest", max_steps: 9 }), { look }), {
      name: "UserError",
      message,
    });
  }
});

test("a result whose place is taken during the run is saved beside it", async (t) => {
  const place = makeWorkplace(t);
  const look = (): void => void mkdirSync(join(place.out(), "final", "plots"), { recursive: true });
  const message = /final: is not replaced, because it holds plots, .* The result is saved as \S+final-2 instead\.$/;
  await assert.rejects(runTraining(asked(place, { max_steps: 2 }), { look }), { name: "UserError", message });
  const other = await runTraining(asked(place, { max_steps: 2, output_dir: place.out("other") }));
  const weights = (folder: string): Buffer => readFileSync(join(folder, "model.safetensors"));
  assert.deepEqual(weights(join(place.out(), "final-2")), weights(other.outcome.folder));
});

/** Does its work with a small file system at `dir`, where one can be mounted. */
async function onDisk(t: TestContext, dir: string, options: string, work: () => Promise<void>): Promise<void> {
  mkdirSync(dir);
  if (spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", dir]).status !== 0) {
    t.skip("a small disk cannot be mounted (needs root)");
    return;
  }
  try {
    await work();
  } finally {
    assert.equal(spawnSync("umount", [dir]).status, 0);
  }
}

test("a disk without room for one checkpoint and the result is refused before the first step", async (t) => {
  const place = makeWorkplace(t);
  await onDisk(t, place.out("disk"), "size=256k", async () => {
    const look = (): void => assert.fail("training began");
    const settings = asked(place, { output_dir: place.out("disk/run") });
    const message =
      /disk\/run will need .* for its checkpoints and its result, but only .* are free on its disk\. Free some space/;
    for (const changes of [{ save_steps: 1 }, { save_steps: 4, save_total_limit: 2 }]) {
      await assert.rejects(runTraining({ ...settings, ...changes }, { look }), { name: "UserError", message });
    }
    assert.deepEqual(listOf(place.out("disk")), []);
    await runTraining({ ...settings, max_steps: 1 });
  });
});

test("a disk that is full at the end: the result waits for room, or is given up with what there is to go on from", async (t) => {
  const place = makeWorkplace(t);
  await onDisk(t, place.out("disk"), "size=2m", async () => {
    const filler = place.out("disk/filler");
    const output_dir = place.out("disk/run");
    const fill = (): void => void spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=4k", "count=1000"]);
    const settings = asked(place, { output_dir, max_steps: 2, overwrite_output_dir: true });
    const given = /disk is full .* No checkpoint was saved yet\.$/;
    await assert.rejects(runTraining({ ...settings, disk_full_wait: 0 }, { look: fill }), {
      name: "UserError",
      message: given,
    });
    rmSync(filler);
    const look = (): void => {
      fill();
      setTimeout(() => rmSync(filler), 400);
    };
    const { events, outcome } = await runTraining(settings, { look });
    const said = events.flatMap((event) =>
      event.kind === "message" && event.level === "warning" ? [event.message] : [],
    );
    assert.equal(said.length, 1, said.join("\n"));
    assert.match(
      said[0],
      /final\S*: cannot be written: the disk is full .* Waiting 10\S*.* for .* of room; Ctrl-C gives up\.$/,
    );
    assert.equal(outcome.folder, join(output_dir, "final"));
  });
});

test("a read-only disk is called that", async (t) => {
  const place = makeWorkplace(t);
  await onDisk(t, place.out("disk"), "ro", async () => {
    for (const name of ["disk", "disk/run", "disk/runs/a"]) {
      const message = /cannot be written: the file system is read-only\. Choose another folder\.$/;
      await assert.rejects(runTraining(asked(place, { output_dir: place.out(name) })), { name: "UserError", message });
    }
  });
});
