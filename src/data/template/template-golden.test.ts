// The families' own chat templates, rendered, tokenized and masked as transformers does (test/golden/make_templates.py),
// on conversations with tools, thoughts, markers inside messages and every kind of blank. Rows go the way of training:
// from a row with its tools to the tokens that are trained.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { UserError } from "../../errors.js";
import type { Message } from "../conversations/sample.js";
import { type DocumentSettings, makeDocuments } from "../make-documents.js";
import { renderChat, renderWithMask } from "./template.js";
import { folderOf } from "../tokenizer/testing-tokenizer.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/tokenizer.js";

const GOLDEN = fileURLToPath(new URL("../../../test/golden", import.meta.url));
const text = (path: string): string => readFileSync(join(GOLDEN, path), "utf8");

interface Conversation {
  messages: Message[];
  tools?: unknown[];
}

/** What transformers makes of a conversation; the text is null where the template refuses it. */
interface Made {
  text: string | null;
  prompt: string | null;
  ids: number[];
  /** Token ranges [first, last + 1] of the assistant; null where there is no sure way to know them. */
  trained: [number, number][] | null;
  merged: boolean;
}

const CONVERSATIONS = JSON.parse(text("templates/cases/conversations.json")) as Record<string, Conversation>;
const SETTINGS: DocumentSettings = {
  format: "messages",
  columns: {},
  assistant_only_loss: true,
  completion_only_loss: true,
  max_length: 10_000,
};

function tokenizerFor(t: TestContext, template: string): Tokenizer {
  const family = template.startsWith("qwen") ? "qwen" : template.startsWith("mixtral") ? "mixtral" : "olmoe";
  return loadTokenizer(
    folderOf(t, {
      "tokenizer.json": text(`tokenizers/${family}/tokenizer.json`),
      "tokenizer_config.json": text(`tokenizers/${family}/tokenizer_config.json`),
      "chat_template.jinja": text(`templates/${template}.jinja`),
    }),
  );
}

function runsOf(flags: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (const [i, flag] of flags.entries()) {
    if (flag === 1 && flags[i - 1] !== 1) runs.push([i, i]);
    if (flag === 1) runs[runs.length - 1][1] = i + 1;
  }
  return runs;
}

/** What is trained where transformers and the conversation itself do not tell it. */
const BY_HAND: Record<string, Record<string, string[]>> = {
  qwen3: {
    "special tokens in a question": ["real<|im_end|>", "<think>\n\n</think>\n\nmore<|im_end|>"],
    "special tokens in an answer": [
      "with <|im_end|> or </s> or <|endoftext|> so<|im_end|>",
      "<think>\n\n</think>\n\nyes<|im_end|>",
    ],
  },
  olmoe: { "two users": ["c<|endoftext|>", "d<|endoftext|>"] },
};

function checkMask(tokenizer: Tokenizer, name: string, conversation: Conversation, made: Made): void {
  const row = { value: { ...conversation }, place: name };
  const { trained } = renderWithMask(tokenizer, conversation.messages, { tools: conversation.tools });
  if (trained.length === 0) {
    assert.deepEqual(made.trained, [], name);
    return;
  }
  const { documents } = makeDocuments([row], tokenizer, SETTINGS);
  // Where a header and an answer share a token, training has two: the text is the same, the ids are not.
  if (made.merged) assert.notDeepEqual([...documents[0].tokens], made.ids, name);
  else {
    assert.deepEqual([...documents[0].tokens], made.ids, name);
    assert.deepEqual(runsOf(documents[0].trained), made.trained, name);
  }
}

const NAMES = readdirSync(join(GOLDEN, "templates/cases"))
  .map((name) => name.replace(".json", ""))
  .filter((name) => name !== "conversations");

for (const template of NAMES) {
  const cases = JSON.parse(text(`templates/cases/${template}.json`)) as Record<string, Made>;

  test(`${template}: text, prompt, ids and trained tokens are those of transformers`, (t) => {
    const tokenizer = tokenizerFor(t, template);
    assert.deepEqual(Object.keys(cases), Object.keys(CONVERSATIONS));
    for (const [name, made] of Object.entries(cases)) {
      const { messages, tools } = CONVERSATIONS[name];
      const render = (some: Message[], addGenerationPrompt: boolean): string =>
        renderChat(tokenizer, some, { tools, addGenerationPrompt });
      if (made.text === null) {
        assert.throws(() => render(messages, false), UserError, name);
        continue;
      }
      assert.equal(render(messages, false), made.text, name);
      const last = messages.findLastIndex(({ role }) => role === "assistant");
      if (made.prompt !== null)
        assert.equal(render(last < 0 ? messages : messages.slice(0, last), true), made.prompt, name);
      if (made.trained !== null) checkMask(tokenizer, name, CONVERSATIONS[name], made);
      else {
        const { trained } = renderWithMask(tokenizer, messages, { tools });
        assert.deepEqual(
          trained.map(([start, end]) => made.text?.slice(start, end)),
          BY_HAND[template]?.[name],
          name,
        );
      }
    }
  });

  test(`${template}: of a prompt and a completion the last answer alone is trained; tools may be a text`, (t) => {
    const tokenizer = tokenizerFor(t, template);
    const name = template === "mixtral-first" ? "answers that repeat" : "several turns";
    const { messages } = CONVERSATIONS[name];
    const { ids, trained } = cases[name];
    const row = (value: Record<string, unknown>): { tokens: number[]; trained: [number, number][] } => {
      const format = "prompt" in value ? "prompt_completion" : "messages";
      const { documents } = makeDocuments([{ value, place: name }], tokenizer, { ...SETTINGS, format });
      return { tokens: [...documents[0].tokens], trained: runsOf(documents[0].trained) };
    };
    const split = row({ prompt: messages.slice(0, -1), completion: messages.slice(-1) });
    // That template counts the header's line break to the turn, which here is the prompt's.
    const header = template === "qwen2.5-tagged" ? 1 : 0;
    assert.deepEqual(split, { tokens: ids, trained: trained?.slice(-1).map(([first, end]) => [first + header, end]) });
    const offered = cases["tools offered"];
    if (offered.text === null) return;
    const { messages: asked, tools } = CONVERSATIONS["tools offered"];
    assert.deepEqual(row({ messages: asked, tools: JSON.stringify(tools) }), {
      tokens: offered.ids,
      trained: offered.trained,
    });
  });
}
