// Tokens that a run adds, and another template and end token: in the tokenizer, in embedding and head, and in what is saved.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { loadModel } from "../../checkpoint/load.js";
import { openSource } from "../../checkpoint/source.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { freeModel, weightBytes } from "../../model/model.js";
import { readGeometry } from "../../plan/geometry.js";
import { scope } from "../../torch/scope.js";
import { shape, type Tensor, toArray } from "../../torch/tensor.js";
import { withAddedTokens } from "./added-tokens.js";
import { makeChatPlace, TURN } from "./testing-chat.js";
import { makeWorkplace, runTraining, settingsFor, weightsOf, type Workplace } from "../testing-run.js";
import type { TrainSettings } from "../settings/settings.js";

const readJson = (...path: string[]): Record<string, unknown> => JSON.parse(readFileSync(join(...path), "utf8"));
const rowsOf = (tensor: Tensor): number[][] => {
  const [rows, width] = shape(tensor);
  const values = toArray(tensor);
  return Array.from({ length: rows }, (_, i) => Array.from(values.slice(i * width, (i + 1) * width)));
};
const tie = ({ model }: Workplace): void =>
  writeFileSync(
    join(model, "config.json"),
    JSON.stringify({ ...readJson(model, "config.json"), tie_word_embeddings: true }),
  );
const words = (count: number): string[] => Array.from({ length: count }, (_, i) => `<word-${i}>`);

/** Before the first step: the rows of the tiny model are 80, of which its tokenizer uses 69. */
for (const [count, rows, tied] of [
  [3, 80, false],
  [15, 84, false],
  [15, 84, true],
] as const) {
  test(`${count} tokens, ${tied ? "tied" : "apart"}: new rows are the mean of the old ones, and the others stay`, (t) => {
    const place = makeWorkplace(t);
    if (tied) tie(place);
    const { source, notes } = withAddedTokens(openSource(place.model), {
      add_tokens: words(count - 1),
      add_special_tokens: ["<sign>"],
    });
    assert.match(
      notes.join(),
      new RegExp(
        `added to the vocabulary: <word-0> \\(69\\), .*<sign> \\(${68 + count}\\); embedding and head ${rows > 80 ? "grow from 80 to 84 rows" : "have 80 rows already"}`,
      ),
    );
    const [before, after] = [place.model, source].map((from) =>
      loadModel(from, { weightsDtype: "auto", device: "cpu" }),
    );
    assert.equal(after.architecture.vocabSize, rows);
    assert.deepEqual(Object.keys(after.outer), Object.keys(before.outer));
    for (const name of Object.keys(before.outer).filter((each) => !each.includes("norm"))) {
      const [old, made] = [before, after].map((model) => scope(() => rowsOf(model.outer[name])));
      const mean = old[0].map((_, column) => old.reduce((sum, row) => sum + row[column], 0) / old.length);
      for (const [i, row] of made.entries()) {
        if (i < 69 || i >= 69 + count) assert.deepEqual(row, old[i], `${name} ${i}`);
        else
          for (const [column, value] of row.entries()) assert.ok(Math.abs(value - mean[column]) < 1e-6, `${name} ${i}`);
      }
    }
    const planned = readGeometry({
      model: place.model,
      weights_dtype: "auto",
      add_tokens: words(count),
      add_special_tokens: [],
    });
    assert.equal(planned.architecture.vocabSize, rows);
    assert.equal(weightBytes(after) - weightBytes(before), (rows - 80) * 24 * 4 * (tied ? 1 : 2));
    freeModel(before);
    freeModel(after);
  });
}

for (const tied of [false, true]) {
  test(`a run with added tokens, ${tied ? "tied" : "apart"}: they are learnt, saved, and kept when it goes on`, async (t) => {
    const place = makeWorkplace(t);
    if (tied) tie(place);
    writeFileSync(
      place.rows,
      Array.from({ length: 8 }, (_, i) => JSON.stringify({ text: `The sum of ${i} <word-9> is<sign>` })).join("\n"),
    );
    const settings = settingsFor(place, { add_tokens: words(12), add_special_tokens: ["<sign>"], max_steps: 4 });
    const whole = await runTraining(settings, {
      look: ({ state, notes }) => {
        assert.equal(state.network.model.architecture.vocabSize, 82);
        assert.match(notes.join(), /grow from 80 to 82 rows/);
      },
    });
    const { folder } = whole.outcome;
    const tokenizer = loadTokenizer(folder);
    assert.deepEqual(tokenizer.encode("is<word-9><sign>").slice(-2), [78, 81]);
    assert.equal(tokenizer.decode([78, 81]), "<word-9>");
    assert.equal(readJson(folder, "config.json").vocab_size, 82);
    const model = loadModel(folder, { weightsDtype: "auto", device: "cpu" });
    const [learnt, other] = scope(() => [78, 70].map((row) => rowsOf(model.outer["model.embed_tokens.weight"])[row]));
    assert.notDeepEqual(learnt, other);
    freeModel(model);
    const again = { ...settings, output_dir: place.out("again") };
    await runTraining(again, { stopAt: 2 });
    const resumed = await runTraining({ ...again, overwrite_output_dir: false, resume: "latest" });
    assert.deepEqual(weightsOf(resumed.outcome.folder), weightsOf(folder));
    // On from its result, the tokens are there.
    const further = settingsFor(
      { ...place, model: folder },
      { output_dir: place.out("further"), add_tokens: ["<word-3>"], max_steps: 1 },
    );
    const ran = await runTraining(further, {
      look: ({ notes }) => assert.match(notes.join(), /<word-3> is a token of the model already/),
    });
    assert.equal(readJson(ran.outcome.folder, "config.json").vocab_size, 82);
  });
}

test("added tokens in every store, and in a model that distils", async (t) => {
  const place = makeWorkplace(t);
  const losses: number[][] = [];
  for (const changes of [
    {},
    { parameters: "disk", durability: "step" },
    { distill_steps: 1 },
  ] as Partial<TrainSettings>[]) {
    const settings = settingsFor(place, { add_tokens: words(14), max_steps: 2, ...changes });
    losses.push((await runTraining(settings)).losses);
  }
  assert.deepEqual(losses[1], losses[0]);
});

test("refused: no token, one named twice, others than the run had", async (t) => {
  const place = makeWorkplace(t);
  const refuses = (changes: Partial<TrainSettings>, message: RegExp): Promise<void> =>
    assert.rejects(runTraining(settingsFor(place, { max_steps: 2, ...changes })), { name: "UserError", message });
  await refuses({ add_tokens: ["<a>"], add_special_tokens: ["<a>"] }, /add_tokens: "<a>" is named twice/);
  await runTraining(settingsFor(place, { add_tokens: ["<a>"], max_steps: 3 }), { stopAt: 1 });
  await refuses(
    { overwrite_output_dir: false, resume: "latest", add_tokens: ["<b>"] },
    /add_tokens: .* here, but \S+checkpoint-1 was trained with/,
  );
  await refuses({ eos_token: "<end>" }, /eos_token: "<end>" is not in the vocabulary of \S+ .*add_special_tokens/);
  await refuses({ chat_template: join(place.folder, "none.jinja") }, /chat_template: there is no file \S+none\.jinja/);
});

test("another end token stands behind texts, is learnt, and is named in what is saved", async (t) => {
  const place = makeWorkplace(t);
  for (const [changes, id] of [
    [{ eos_token: "<end>", add_special_tokens: ["<end>"] }, 69],
    [{ eos_token: "z" }, null],
    [{}, 0],
  ] as [Partial<TrainSettings>, number | null][]) {
    let last = -1;
    const { outcome } = await runTraining(settingsFor(place, { max_steps: 2, packing: false, ...changes }), {
      look: ({ data }) => {
        const { tokens, segments } = data.next();
        last = tokens[segments[0] - 1];
        data.restore({ epoch: 0, position: 0 });
      },
    });
    const saved = loadTokenizer(outcome.folder);
    assert.equal(saved.eosId, last);
    if (id !== null) assert.equal(last, id);
    assert.equal(readJson(outcome.folder, "tokenizer_config.json").eos_token, changes.eos_token ?? "<|endoftext|>");
  }
});

test("another template, with its variables: rows are written by it, and it is saved in place of the model's", async (t) => {
  const place = makeWorkplace(t);
  makeChatPlace(place);
  const path = join(place.folder, "other.jinja");
  const template =
    "{% for message in messages %}{{ message.role }}{% if loud %}.{{ name }}{% endif %}.{{ message.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant{% if loud %}.{{ name }}{% endif %}.{% endif %}";
  writeFileSync(path, template);
  const first = async (changes: Partial<TrainSettings>): Promise<string> => {
    let text = "";
    const { outcome } = await runTraining(
      settingsFor(place, { max_steps: 2, chat_template: path, packing: false, shuffle: false, ...changes }),
      {
        look: ({ data, tokenizer }) => {
          text = Array.from(data.next().tokens, (id) => tokenizer.nameOf(id)).join("");
          data.restore({ epoch: 0, position: 0 });
        },
      },
    );
    assert.equal(readFileSync(join(outcome.folder, "chat_template.jinja"), "utf8"), template);
    assert.equal(readJson(outcome.folder, "tokenizer_config.json").chat_template, template);
    assert.deepEqual(readJson(outcome.folder, "generation_config.json").eos_token_id, [TURN.end, 0]);
    return text;
  };
  assert.equal(await first({}), "user.What is 0<|im_end|>assistant.It is 0<|im_end|>");
  assert.equal(
    await first({ chat_template_kwargs: { loud: true, name: "x" } }),
    "user.x.What is 0<|im_end|>assistant.x.It is 0<|im_end|>",
  );
  assert.equal(
    await first({ chat_template_kwargs: { loud: false } }),
    "user.What is 0<|im_end|>assistant.It is 0<|im_end|>",
  );
});

test("what is trained, and rows that are too long, by the settings of a run", async (t) => {
  const place = makeWorkplace(t);
  makeChatPlace(place);
  const talk = {
    messages: ["a", "bc", "d", "efg"].map((content, i) => ({ role: i % 2 ? "assistant" : "user", content })),
  };
  writeFileSync(
    place.rows,
    `${JSON.stringify(talk)}\n${JSON.stringify({ messages: [{ role: "user", content: "x".repeat(80) }, talk.messages[1]] })}\n`,
  );
  const report = async (changes: Partial<TrainSettings>): Promise<number[]> => {
    let counts: number[] = [];
    await runTraining(settingsFor(place, { max_steps: 1, max_length: 70, ...changes }), {
      look: ({ report: { trainedTokens, truncated, dropped } }) => void (counts = [trainedTokens, truncated, dropped]),
    });
    return counts;
  };
  assert.deepEqual(await report({ excess_length_strategy: "drop" }), [3 + 4, 0, 1]);
  assert.deepEqual(await report({ excess_length_strategy: "drop", train_on: "last" }), [4, 0, 1]);
  assert.equal((await report({ train_on: "all" }))[1], 1);
});
