// A plan as data: what the command prints with --json, for programs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { runCli } from "../cli/program.js";
import { COMMANDS } from "../commands/registry.js";
import { plan, type PlanSettings, UserError } from "../index.js";
import { resolveSettings } from "../train/settings/settings.js";

const MODEL = fileURLToPath(new URL("../../examples/tiny-moe/config.json", import.meta.url));
const SETTINGS = { model: MODEL, max_length: 256, per_device_train_batch_size: 2, method: "checkpoint" } as const;

async function printed(...flags: string[]): Promise<Record<string, unknown>> {
  let text = "";
  const out = { write: (some: string) => (text += some) };
  const words = [
    "plan",
    `--model=${MODEL}`,
    "--max-length=256",
    "--per-device-train-batch-size=2",
    "--method=checkpoint",
  ];
  assert.equal(
    await runCli({ version: () => "0", commands: COMMANDS }, [...words, "--json", ...flags], out, out),
    0,
    text,
  );
  return JSON.parse(text) as Record<string, unknown>;
}

test("the step is the command's, by term and place, and no ways are sought unasked", async () => {
  const { step, machine, ways } = await plan(SETTINGS);
  const { fits: _, processBytes: __, stepMs: ___, flags: ____, waysToFit: _____, ...told } = await printed();
  assert.deepEqual(JSON.parse(JSON.stringify(step)), told);
  const { peakBytes, ...terms } = step.terms;
  assert.equal(
    Object.values(terms).reduce((sum, bytes) => sum + bytes, 0),
    peakBytes,
  );
  assert.deepEqual([machine, ways], [null, []]);
});

test("settings of a run may be planned as they are, with the same step; they are checked", async () => {
  const run = { ...SETTINGS, train_file: "none.jsonl", output_dir: "none", learning_rate: 1e-4, max_steps: 7 };
  assert.deepEqual((await plan(run)).step, (await plan(SETTINGS)).step);
  const cases: [PlanSettings, RegExp][] = [
    [{ ...run, learning_rate: -1 }, /^learning_rate -1 is not possible/],
    [{ ...run, learnin_rate: 1 } as PlanSettings, /^learnin_rate is unknown\. Did you mean learning_rate\?$/],
    [{ ...SETTINGS, gpu: "RTX 9999 Ultra" }, /RTX 9999 Ultra/],
    [{ ...SETTINGS, compare: true } as PlanSettings, /^compare: only the command line has it/],
    [{ ...SETTINGS, model: "./none" }, /none/],
  ];
  for (const [settings, message] of cases)
    await assert.rejects(
      plan(settings),
      (failure) => failure instanceof UserError && message.test(failure.message),
      String(message),
    );
});

test("ways that fit a described machine are the command's, and what each changes can be trained with", async () => {
  const described = { gpu: "24GiB", memory: "64GiB", disk: "500GiB" };
  const { machine, ways } = await plan({ ...SETTINGS, ...described });
  const told = await printed("--gpu=24GiB", "--memory=64GiB", "--disk=500GiB");
  const withoutSpeed = (each: object | null): object => {
    // Measured anew on the machine at hand.
    const { flops: _, ...rest } = { flops: 0, ...each };
    return rest;
  };
  assert.deepEqual(withoutSpeed(machine), withoutSpeed(told.machine as object));
  assert.ok(ways.length > 0);
  assert.deepEqual(
    ways.map(({ flags }) => flags),
    (told.ways as { flags: string }[]).map(({ flags }) => flags),
  );
  for (const { settings, deviceBytes } of ways) {
    assert.ok(deviceBytes > 0);
    const flags = { ...SETTINGS, train_file: "-", output_dir: "-", ...settings };
    assert.doesNotThrow(() => resolveSettings({ flags }));
  }
});
