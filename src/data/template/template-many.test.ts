// A thousand made-up conversations, with tools, calls, thoughts, numbers, nulls and several turns, under templates of every
// family: text, prompt and what the assistant wrote are those of transformers (test/golden/make_template_cases.py).
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { test } from "node:test";
import { UserError } from "../../errors.js";
import type { Message } from "../conversations/sample.js";
import { parseJsonRow } from "../json-values.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { renderChat, renderWithMask } from "./template.js";

const FOLDER = new URL("../../../test/golden/templates/", import.meta.url);
const golden = JSON.parse(gunzipSync(readFileSync(new URL("many.json.gz", FOLDER))).toString()) as {
  conversations: string[];
  cases: Record<string, string>;
};

interface Conversation {
  messages: Message[];
  tools?: unknown[];
}
const CONVERSATIONS = golden.conversations.map((text) => parseJsonRow(text) as Conversation);

const hashed = (text: string, length: number): string =>
  createHash("sha256")
    .update(text.replaceAll(/\d{4}-\d\d-\d\d/g, "DATE"))
    .digest("base64")
    .slice(0, length);

/** Only what templates are given: nothing is encoded here. */
function tokenizerWith(chatTemplate: string): Tokenizer {
  const specialTokens = { bos_token: "<s>", eos_token: "</s>" };
  return { chatTemplate, chatTemplates: {}, specialTokens } as unknown as Tokenizer;
}

function render(
  tokenizer: Tokenizer,
  messages: Message[],
  tools: unknown[] | undefined,
  prompt: boolean,
): string | undefined {
  try {
    return renderChat(tokenizer, messages, { tools, addGenerationPrompt: prompt });
  } catch (error) {
    assert(error instanceof UserError, String(error));
    return undefined;
  }
}

for (const [name, cases] of Object.entries(golden.cases)) {
  test(`${name}: conversations, prompts and turns are those of transformers, or refused as there`, () => {
    assert.equal(CONVERSATIONS.length, 1000);
    const tokenizer = tokenizerWith(readFileSync(new URL(`${name}.jinja`, FOLDER), "utf8"));
    for (const [i, { messages, tools }] of CONVERSATIONS.entries()) {
      const [shown, wrote] = [cases.slice(8 * i, 8 * i + 5), cases.slice(8 * i + 5, 8 * i + 8)];
      const text = render(tokenizer, messages, tools, false);
      if (text === undefined || shown === "-----") {
        assert.equal(text, shown === "-----" ? undefined : "a text", `conversation ${i}`);
        continue;
      }
      const prompt = render(tokenizer, messages.slice(0, 1), tools, true) ?? "";
      assert.equal(hashed(`${text}\0${prompt}`, 5), shown, `conversation ${i}: ${text}`);
      if (wrote === "---") continue;
      const { trained } = renderWithMask(tokenizer, messages, { tools });
      const answers = trained.map((span) => text.slice(...span));
      assert.equal(hashed(answers.join("\0"), 3), wrote, `conversation ${i}: ${JSON.stringify(answers)} of ${text}`);
    }
  });
}
