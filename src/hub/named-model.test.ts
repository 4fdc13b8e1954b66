// A run's folder is a model for whoever reads one, and so is what lies in it; what is chosen is said.
import assert from "node:assert/strict";
import { utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { runCli } from "../cli/program.js";
import type { Output } from "../metrics/output.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "../train/testing-run.js";
import { COMMANDS } from "../commands/registry.js";
import { namedModel } from "./named-model.js";

test("of a run's folder the result, or else the newest checkpoint; any other folder as it is", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 4, save_steps: 1 }));
  const run = place.out();
  const final = join(run, "final");
  const checkpoint = join(run, "checkpoint-4");
  const asked = async (model: string): Promise<{ folder: string; said: string }> => {
    let said = "";
    const { folder } = await namedModel(model, "use", { out: { write: (text) => (said += text) } });
    return { folder, said };
  };
  const note = (folder: string): string => `note: ${run} is the folder of a run; its model is taken from ${folder}\n`;
  assert.deepEqual(await asked(run), { folder: final, said: note(final) });
  for (const folder of [final, checkpoint, place.model]) assert.deepEqual(await asked(folder), { folder, said: "" });
  const later = new Date(Date.now() + 60_000);
  utimesSync(join(checkpoint, "config.json"), later, later);
  const newer = `note: ${checkpoint} was saved after ${final}; give its path to use it instead\n`;
  assert.deepEqual(await asked(run), { folder: final, said: note(final) + newer });
  await assert.rejects(asked(join(run, "none")), { name: "UserError", message: /: no such folder\. Check the path/ });
});

test("generate, plan and train take a run's folder, and train it on from its result", async (t) => {
  const place = makeWorkplace(t);
  await runTraining(settingsFor(place, { max_steps: 2 }));
  const model = place.out();
  const note = `note: ${model} is the folder of a run; its model is taken from ${join(model, "final")}\n`;
  const revmoe = async (...words: string[]): Promise<{ out: string; err: string }> => {
    const said = { out: "", err: "" };
    const into = (name: "out" | "err"): Output => ({ write: (text) => void (said[name] += text) });
    const common = ["--threads", "1", "--compute-dtype", "float32"];
    const code = await runCli(
      { version: () => "", commands: COMMANDS },
      [...words, ...common],
      into("out"),
      into("err"),
    );
    assert.equal(code, 0, said.err);
    return said;
  };
  assert.equal((await revmoe("generate", "--model", model, "--prompt", "a", "--max-new-tokens", "1")).err, note);
  assert.equal((await revmoe("plan", "--model", model, "--max-length", "16")).err, note);
  const second = join(dirname(model), "second");
  const data = ["--train-file", place.rows, "--max-length", "64", "--max-steps", "1", "--learning-rate", "1e-3"];
  assert.ok((await revmoe("train", "--model", model, "--output-dir", second, ...data)).out.includes(note));
  const third = join(dirname(model), "third");
  await revmoe("train", "--model", join(model, "final"), "--output-dir", third, ...data);
  assert.ok(weightsOf(join(second, "final")).equals(weightsOf(join(third, "final"))));
});
