// What the quickstart says of deep and large models is what a plan of them says, and holds on any machine.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { plan } from "../../library/plan.js";
import { machineOf } from "../../plan/ways/machine.js";
import { bars, deepPlans, deepWords, largeWords, sentence } from "./picture.js";

const folder = mkdtempSync(join(tmpdir(), "revmoe-picture-"));
after(() => rmSync(folder, { recursive: true }));

test("the deep model is planned as its config.json would be, and reversible blocks keep the least", async () => {
  const small = fileURLToPath(new URL("../../../examples/tiny-moe/config.json", import.meta.url));
  const config = JSON.parse(readFileSync(small, "utf8")) as object;
  const deep = join(folder, "config.json");
  writeFileSync(deep, JSON.stringify({ ...config, num_hidden_layers: 48, max_position_embeddings: 32768 }));
  const compared = deepPlans();
  const work = { model: deep, max_length: 32768, per_device_train_batch_size: 1 };
  for (const { name, plan: planned } of compared) {
    const coupling = name === "reversible" ? {} : { coupling: "ordinary" as const };
    const { step } = await plan({ ...work, method: name as "store", ...coupling });
    assert.deepEqual(step.terms, planned.terms, name);
  }
  const kept = compared.map(({ plan: { terms } }) => terms.keptBytes);
  assert.ok(kept[0] > 8 * kept[1] && kept[1] > 3 * kept[2], String(kept));
  const drawn = bars(compared).split("\n");
  const lengths = drawn.slice(0, 3).map((line) => line.match(/[█░]/g)?.length ?? 0);
  assert.ok(
    lengths[0] === 44 && lengths[0] > lengths[1] && lengths[1] > lengths[2] && lengths[2] > 0,
    drawn.join("\n"),
  );
  assert.match(
    deepWords(compared).join(" "),
    /keeps 15\.\d GiB if everything is stored, 1\.\d+ GiB with checkpoints, and \d+ MiB with reversible blocks\./,
  );
});

test("the large model: a way on this machine, or a word that there is none", () => {
  assert.match(
    largeWords(folder),
    /^Qwen1\.5-MoE-A2\.7B, all 14\.3 B parameters, (trains on this machine with its weights in files: |would not fit )/,
  );
  const machine = machineOf({ gpu: "", memory: "1GiB", disk: "1GiB", device: "cpu", folder });
  assert.match(
    sentence("It", machine, undefined),
    /^It, would not fit this machine \(1\.00 GiB of main memory, 1\.00 GiB of disk\)/,
  );
});
