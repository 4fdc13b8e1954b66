// Which turns are trained: by what is wanted, by what a row says of its messages, in rows with and without a prompt.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "./conversations/sample.js";
import { encodeSample, type WeighedSample } from "./encode.js";
import type { TrainedParts } from "./trained-parts.js";
import { TRAIN_ON, type TrainOn } from "./trained-parts.js";
import { OPENS } from "./template/testing-templates.js";
import { CHATML, CHATML_TAGGED, testTokenizer } from "./tokenizer/testing-tokenizer.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

const user = (content: string): Message => ({ role: "user", content });
const says = (content: string): Message => ({ role: "assistant", content });
const TURNS = [user("q1"), says("a1"), user("q2"), says("a2"), user("q3"), says("a3")];
const WHOLE: WeighedSample = { kind: "messages", messages: TURNS, tools: undefined };
const SPLIT: WeighedSample = {
  kind: "chat_completion",
  prompt: TURNS.slice(0, 3),
  completion: TURNS.slice(3),
  tools: undefined,
};
const OLD: TrainedParts = { assistant_only_loss: true, completion_only_loss: true };

/** The text, with what is trained between « and »; the first token never is. */
function marked(tokenizer: Tokenizer, sample: WeighedSample, settings: Partial<TrainedParts>): string {
  const { tokens, trained } = encodeSample(sample, tokenizer, { ...OLD, ...settings }, "d.jsonl:1");
  const text = [...tokens].map((id, i) => {
    const word = id === 266 ? "$" : tokenizer.decode([id]);
    return (
      (trained[i] === 1 && trained[i - 1] !== 1 ? "«" : "") +
      word +
      (trained[i] === 1 && trained[i + 1] !== 1 ? "»" : "")
    );
  });
  return text.join("").replaceAll("\n", "/");
}

/** Trained parts alone. */
const parts = (tokenizer: Tokenizer, sample: WeighedSample, settings: Partial<TrainedParts>): string[] =>
  [...marked(tokenizer, sample, settings).matchAll(/«(.*?)»/g)].map(([, part]) => part);

test("what is wanted, of a conversation and of a prompt with its completion", (t) => {
  for (const chat_template of [CHATML, CHATML_TAGGED]) {
    const tokenizer = testTokenizer(t, { chat_template });
    const expected: Record<TrainOn, [string[], string[]]> = {
      assistant: [
        ["a1$", "a2$", "a3$"],
        ["a1$", "a2$", "a3$"],
      ],
      last: [["a3$"], ["a3$"]],
      completion: [
        ["a1$", "a2$", "a3$"],
        ["a2$", "a3$"],
      ],
      all: [[], []],
    };
    for (const train_on of TRAIN_ON) {
      if (train_on === "all") continue;
      assert.deepEqual(parts(tokenizer, WHOLE, { train_on }), expected[train_on][0], train_on);
      assert.deepEqual(parts(tokenizer, SPLIT, { train_on }), expected[train_on][1], train_on);
    }
    assert.equal(
      parts(tokenizer, WHOLE, { train_on: "all" })[0].length,
      marked(tokenizer, WHOLE, { train_on: "all" }).length - 2,
    );
    assert.deepEqual(parts(tokenizer, WHOLE, {}), ["a1$", "a2$", "a3$"]);
    assert.deepEqual(parts(tokenizer, SPLIT, {}), ["a2$", "a3$"]);
  }
  const plain: WeighedSample = { kind: "completion", prompt: "ab ", completion: "cd" };
  const tokenizer = testTokenizer(t);
  assert.equal(marked(tokenizer, plain, { train_on: "last" }), "ab «cd$»");
  assert.equal(marked(tokenizer, plain, { train_on: "all" }), "ab« cd$»");
});

test("turns that a row does not want trained are not, whatever is wanted", (t) => {
  for (const chat_template of [CHATML, CHATML_TAGGED]) {
    const tokenizer = testTokenizer(t, { chat_template });
    const but = (...out: number[]): { trains: boolean[] } => ({ trains: TURNS.map((_, i) => !out.includes(i)) });
    assert.deepEqual(parts(tokenizer, { ...WHOLE, ...but(1) }, {}), ["a2$", "a3$"]);
    assert.deepEqual(parts(tokenizer, { ...WHOLE, ...but(1, 5, 0) }, {}), ["a2$"]);
    assert.deepEqual(parts(tokenizer, { ...WHOLE, ...but(5) }, { train_on: "last" }), []);
    assert.deepEqual(parts(tokenizer, { ...SPLIT, ...but(3) }, {}), ["a3$"]);
    assert.deepEqual(parts(tokenizer, { ...SPLIT, ...but(1) }, { train_on: "assistant" }), ["a2$", "a3$"]);
    assert.deepEqual(parts(tokenizer, { ...WHOLE, trains: [] }, {}), ["a1$", "a2$", "a3$"]);
  }
});

test("of all tokens, those of a turn that is not wanted are left out", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const but = (...out: number[]): string =>
    marked(tokenizer, { ...WHOLE, trains: TURNS.map((_, i) => !out.includes(i)) }, { train_on: "all" });
  assert.match(but(1), /assistant\/»a1\$«\/user/);
  assert.match(but(3), /assistant\/»a2\$«\//);
  assert.match(but(2, 3), /»user\/q2\$\/«assistant\/»a2\$«\//);
});

test("a prompt that opens thoughts: of its completion, what stands behind them is trained", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: OPENS });
  assert.deepEqual(parts(tokenizer, WHOLE, {}), ["a1$", "a2$", "/</think>//a3$"]);
  const last: WeighedSample = {
    kind: "chat_completion",
    prompt: TURNS.slice(0, 3),
    completion: [says("a2")],
    tools: undefined,
  };
  assert.deepEqual(parts(tokenizer, last, {}), ["/</think>//a2$"]);
  assert.deepEqual(parts(tokenizer, last, { train_on: "assistant" }), ["a1$", "/</think>//a2$"]);
  assert.deepEqual(parts(tokenizer, SPLIT, {}), ["a2$", "/</think>//a3$"]);
});

test("the template's variables come from the settings, and one named tool_use is for rows with tools", (t) => {
  const said = "{{ ' yes' if enable_thinking else ' no' }}{{ bos_token }}";
  const tokenizer = testTokenizer(t, { chat_template: said + CHATML });
  const text = (sample: WeighedSample, settings: Partial<TrainedParts> = {}): string =>
    tokenizer.decode(encodeSample(sample, tokenizer, { ...OLD, ...settings }, "d").tokens);
  assert.match(text(WHOLE), /^ no/);
  assert.match(text(WHOLE, { chat_template_kwargs: { enable_thinking: true } }), /^ yes/);
  assert.match(text(WHOLE, { chat_template_kwargs: { enable_thinking: true, bos_token: "B" } }), /^ yesB/);
  assert.match(text({ ...WHOLE, kwargs: { enable_thinking: true, n: 9007199254740993n } }), /^ yes/);
  tokenizer.chatTemplates.tool_use = `T${CHATML}`;
  assert.match(text({ ...WHOLE, tools: [{ name: "f" }] }), /^T/);
  assert.match(text(WHOLE), /^ no/);
});
