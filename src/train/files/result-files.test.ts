// What a run says of the end of a turn in the files that it saves, and what is said of a model's files before it begins.
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { exportFolder } from "../../checkpoint/export.js";
import { loadModel } from "../../checkpoint/load.js";
import { saveModel } from "../../checkpoint/save.js";
import { folderFiles } from "../../checkpoint/source.js";
import { findStopIds } from "../../generate/stop-ids.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { freeModel } from "../../model/model.js";
import { fill_ } from "../../torch/ops.js";
import { makeChatPlace, TURN } from "./testing-chat.js";
import { makeWorkplace, runTraining, settingsFor, type Workplace } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";

const readJson = (...path: string[]): Record<string, unknown> => JSON.parse(readFileSync(join(...path), "utf8"));
const GENERATION = "generation_config.json";

async function trained(
  place: Workplace,
  changes: Partial<TrainSettings> = {},
): Promise<{ folder: string; notes: string }> {
  let notes = "";
  const settings = settingsFor(place, { max_steps: 2, save_steps: 2, ...changes });
  const { outcome } = await runTraining(settings, {
    look: (run) => void (notes = run.notes.filter((note) => !/ordinary network; it becomes/.test(note)).join("\n")),
  });
  return { folder: outcome.folder, notes };
}

test("conversations: the end of a turn goes before the end token of the base model, in all that is saved", async (t) => {
  const place = makeWorkplace(t);
  makeChatPlace(place);
  const generation = '{\n  "do_sample": true,\n  "eos_token_id": 0,\n  "temperature": 2.0\n}\n';
  for (const [written, expected] of [
    [generation, generation.replace('"eos_token_id": 0', `"eos_token_id": [${TURN.end}, 0]`)],
    ['{"eos_token_id": [5, 0]}', `{"eos_token_id": [${TURN.end}, 5, 0]}`],
    [null, `{\n  "eos_token_id": [\n    ${TURN.end},\n    0\n  ]\n}\n`],
  ] as const) {
    if (written !== null) writeFileSync(join(place.model, GENERATION), written);
    else {
      rmSync(join(place.model, GENERATION));
      const config = { ...readJson(place.model, "config.json"), eos_token_id: 0 };
      writeFileSync(join(place.model, "config.json"), JSON.stringify(config));
    }
    const { folder, notes } = await trained(place);
    for (const saved of [folder, join(folder, "../checkpoint-2")])
      assert.equal(readFileSync(join(saved, GENERATION), "utf8"), expected);
    assert.match(
      notes,
      /<\|im_end\|> \(71\) is trained as the end of a turn; what is saved says so .*eos_token_id \[71,/,
    );
    assert.equal([...findStopIds(folderFiles(folder), loadTokenizer(folder), { chat: false })][0], TURN.end);
    // Trained further, it says so already, and an export takes it along.
    const again = await trained({ ...place, model: folder, out: () => join(place.folder, "again") });
    assert.doesNotMatch(again.notes, /end of a turn/);
    assert.equal(readFileSync(join(again.folder, GENERATION), "utf8"), expected);
    const exported = join(place.folder, "exported");
    rmSync(exported, { recursive: true, force: true });
    exportFolder(exported, folder, { layout: "per-expert", dtype: "auto", maxShardBytes: 5e9 });
    assert.equal(readFileSync(join(exported, GENERATION), "utf8"), expected);
  }
});

test("no end of a turn is trained: texts, a template without one, an end that is named already", async (t) => {
  const place = makeWorkplace(t);
  const texts = readFileSync(place.rows);
  makeChatPlace(place);
  const talks = readFileSync(place.rows);
  writeFileSync(place.rows, texts);
  assert.ok(!existsSync(join((await trained(place)).folder, GENERATION)));
  writeFileSync(place.rows, talks);
  makeChatPlace(place, {
    chat_template:
      "{% for m in messages %}{{ m.role }}.{{ m.content }}.{% endfor %}{% if add_generation_prompt %}assistant.{% endif %}",
  });
  assert.ok(!existsSync(join((await trained(place)).folder, GENERATION)));
  makeChatPlace(place);
  writeFileSync(join(place.model, GENERATION), `{"eos_token_id": ${TURN.end}}`);
  const { folder, notes } = await trained(place);
  assert.equal(readFileSync(join(folder, GENERATION), "utf8"), `{"eos_token_id": ${TURN.end}}`);
  assert.doesNotMatch(notes, /end of a turn/);
});

test("said before the first step: lengths that the model does not know, no end token, float16", async (t) => {
  const place = makeWorkplace(t);
  assert.equal((await trained(place)).notes, "");
  const long = await trained(place, { max_length: 65 });
  assert.match(
    long.notes,
    /^max_length 65 is more than the 64 positions that the model knows \(max_position_embeddings/,
  );
  writeFileSync(join(place.model, "tokenizer_config.json"), "{}");
  assert.match((await trained(place)).notes, /^the tokenizer names no end token, so rows get none behind them/);
  writeFileSync(join(place.model, "special_tokens_map.json"), '{"eos_token": "<|endoftext|>"}');
  assert.equal((await trained(place)).notes, "");
  const model = loadModel(place.model, { weightsDtype: "float32", device: "cpu" });
  const half = join(place.folder, "half");
  saveModel(half, model, { source: folderFiles(place.model), dtype: "float16" });
  freeModel(model);
  const { folder, notes } = await trained({ ...place, model: half });
  assert.match(notes, /^the model's weights are float16, .* trained and saved as float32, which is twice the size/);
  assert.equal(readJson(folder, "config.json").dtype, "float32");
  assert.equal((await trained({ ...place, model: half }, { weights_dtype: "bfloat16" })).notes, "");
});

test("said at the end: an ordinary network that nobody has measured, and one that says nothing", async (t) => {
  const place = makeWorkplace(t);
  const said = async (changes: Partial<TrainSettings>, model = place.model): Promise<string> => {
    const { events } = await runTraining(settingsFor({ ...place, model }, { max_steps: 2, ...changes }));
    return events
      .flatMap((event) => (event.kind === "message" && event.level === "warning" ? [event.message] : []))
      .join("\n");
  };
  const unlike =
    /^\S+final loads in other tools as the ordinary network, which is not the one that was trained: additive computes something else/m;
  assert.match(await said({ coupling: "additive" }), unlike);
  assert.doesNotMatch(await said({ coupling: "additive", validation_rows: 2 }), unlike);
  assert.equal(await said({}), "");
  const dead = join(place.folder, "dead");
  const model = loadModel(place.model, { weightsDtype: "float32", device: "cpu" });
  fill_(model.outer["lm_head.weight"], 0);
  saveModel(dead, model, { source: folderFiles(place.model) });
  freeModel(model);
  const nothing = /the loss is ln\(80\), as if every token had the same chance: the network says nothing/g;
  assert.equal((await said({ learning_rate: 1e-30 }, dead)).match(nothing)?.length, 2);
});
