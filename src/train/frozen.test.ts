// Parameters that stay as they are: embedding, layers, experts, by their names; and what is refused of such names.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { loadModel } from "../checkpoint/load.js";
import { fullName } from "../checkpoint/layout.js";
import { sameBits } from "../checkpoint/verify.js";
import { freeModel, placedParameters } from "../model/model.js";
import { scope } from "../torch/scope.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf } from "./testing-run.js";

/** Full names of parameters that differ in two folders. */
function changed(from: string, to: string): string[] {
  const [a, b] = [from, to].map((folder) => loadModel(folder, { weightsDtype: "auto", device: "cpu" }));
  const names = placedParameters(a.architecture)
    .filter(({ layer, spec }) => {
      const [left, right] = [a, b].map((model) => (layer < 0 ? model.outer : model.blocks[layer])[spec.name]);
      return !scope(() => sameBits(left, right));
    })
    .map(fullName);
  freeModel(a);
  freeModel(b);
  return names;
}

for (const [freeze, isFrozen] of [
  [["model.embed_tokens.*", "lm_head.weight"], /^(model\.embed_tokens|lm_head)\./],
  [["model.layers.0.*", "model.layers.2.mlp.*"], /^model\.layers\.(0|2\.mlp)\./],
  [["*.experts.*", "*.gate.weight"], /\.mlp\.(experts\.|gate\.weight)/],
] as const) {
  for (const optimizer of ["adamw", "adafactor"] as const) {
    test(`frozen ${freeze}, ${optimizer}: nothing else stays as it is, and a run that goes on has the same bits`, async (t) => {
      const place = makeWorkplace(t);
      const settings = settingsFor(place, { freeze: [...freeze], optimizer, max_steps: 4, learning_rate: 0.01 });
      const states: string[] = [];
      const whole = await runTraining(settings, {
        look: (run) => void states.push(...run.states.tensors().map(({ name }) => name)),
      });
      const names = changed(place.model, whole.outcome.folder);
      assert.ok(names.length > 5 && !names.some((name) => isFrozen.test(name)), names.join());
      assert.ok(!states.some((name) => isFrozen.test(name.replace(/^[a-z_]+\//, ""))), states.join());
      const again = { ...settings, output_dir: place.out("again") };
      await runTraining(again, { stopAt: 2 });
      const resumed = await runTraining({ ...again, overwrite_output_dir: false, resume: "latest" });
      assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(whole.outcome.folder));
    });
  }
}

test("names are those on disk too, and a frozen correction of the choice does not move", async (t) => {
  const place = makeWorkplace(t, "minimax-partial");
  const freeze = ["*.block_sparse_moe.gate.weight", "model.layers.0.block_sparse_moe.e_score_correction_bias"];
  const { outcome } = await runTraining(settingsFor(place, { freeze, router_bias_update_rate: 0.01, max_steps: 2 }));
  const names = changed(place.model, outcome.folder).filter((name) => name.includes(".mlp.gate."));
  assert.deepEqual(names, ["model.layers.1.mlp.gate.e_score_correction_bias"]);
});

test("refused: names of nothing, of all, of some experts, and others than the run had", async (t) => {
  const place = makeWorkplace(t);
  const refuses = (freeze: string[], message: RegExp, more = {}): Promise<void> =>
    assert.rejects(runTraining(settingsFor(place, { freeze, max_steps: 2, ...more })), { name: "UserError", message });
  await refuses(
    ["model.layer.0.*"],
    /freeze: model\.layer\.0\.\* names no parameter .*such as model\.embed_tokens\.weight/,
  );
  await refuses(["*"], /freeze: \* leaves no parameter to train/);
  await refuses(
    ["*.experts.3.*"],
    /names 2 of the \d+ matrices of model\.layers\.0\.mlp\.experts\.\S+, which are trained as one/,
  );
  await runTraining(settingsFor(place, { freeze: ["lm_head.weight"], max_steps: 3 }), { stopAt: 1 });
  const more = { overwrite_output_dir: false, resume: join(place.out(), "checkpoint-1") };
  await refuses(["model.norm.weight"], /freeze: .* here, but \S+checkpoint-1 was trained with /, more);
});
