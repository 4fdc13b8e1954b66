// For tests of runs on conversations: the tiny model's tokenizer with tokens that open and end turns, and a template
// that uses them.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { Workplace } from "../testing-run.js";

/** Ids of the turn tokens. The tiny model's embedding has 80 rows, of which the letters use 69. */
export const TURN = { start: 70, end: 71 };

export const CHAT_TEMPLATE =
  "{% for message in messages %}<|im_start|>{{ message.role }}.{{ message.content }}<|im_end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|im_start|>assistant.{% endif %}";

/** Gives the workplace's model a chat template and conversations as rows; `config` goes into tokenizer_config.json. */
export function makeChatPlace({ model, rows }: Workplace, config: Record<string, unknown> = {}): void {
  const path = join(model, "tokenizer.json");
  const json = JSON.parse(readFileSync(path, "utf8")) as { added_tokens: object[] };
  const [like] = json.added_tokens;
  json.added_tokens.push(
    { ...like, id: TURN.start, content: "<|im_start|>" },
    { ...like, id: TURN.end, content: "<|im_end|>" },
  );
  writeFileSync(path, JSON.stringify(json));
  const named = { eos_token: "<|endoftext|>", chat_template: CHAT_TEMPLATE, ...config };
  writeFileSync(join(model, "tokenizer_config.json"), JSON.stringify(named));
  const talk = (i: number): object => ({
    messages: [
      { role: "user", content: `What is ${i}` },
      { role: "assistant", content: `It is ${i}` },
    ],
  });
  writeFileSync(rows, Array.from({ length: 12 }, (_, i) => JSON.stringify(talk(i))).join("\n"));
}
