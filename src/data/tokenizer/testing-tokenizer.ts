// Only for this folder's tests: a byte-level BPE of 256 bytes, eight merges and three special tokens, written to a
// folder like a checkpoint's; and chat templates in the shapes that models come with.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

/** "h e" joins first, then "l l", and so on; "\u0120" is a space and "\u010A" a newline in byte-level spelling. */
const MERGES = ["h e", "l l", "he ll", "hell o", "\u0120 w", "o r", "\u010A \u010A", "a b"];
export const SPECIAL = { endoftext: 264, imStart: 265, imEnd: 266 };

/** ChatML, as in Qwen2. */
export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** ChatML over several lines, with tags around what the assistant writes. */
export const CHATML_TAGGED = `{%- for message in messages %}
  {{- '<|im_start|>' + message.role + '\\n' }}
  {%- if message.role == 'assistant' %}
    {%- generation %}
    {{- message.content + '<|im_end|>' }}
    {%- endgeneration %}
  {%- else %}
    {{- message.content + '<|im_end|>' }}
  {%- endif %}
  {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}
`;

/** Like Qwen3: only turns after the last question have thoughts, even if empty; earlier turns lose theirs. */
export const CHATML_THINKING = `{%- set ns = namespace(last=0) %}
{%- for message in messages %}
  {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
  {%- if message.role == 'assistant' %}
    {%- set content = message.content if message.content is string else '' %}
    {%- set thoughts = '' %}
    {%- if '</think>' in content %}
      {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
      {{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content }}
    {%- for call in message.tool_calls or [] %}
      {{- '<tool_call>' + (call | tojson) + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- else %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}
`;

/** Byte-level spelling: a printable Latin-1 byte stands for itself, other bytes become characters from U+0100 on. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(printable ? byte : next++);
  });
}

export function tokenizerJson(): Record<string, unknown> {
  const vocab = Object.fromEntries(
    [...byteCharacters(), ...MERGES.map((merge) => merge.replace(" ", ""))].map((token, id) => [token, id]),
  );
  const special = (content: string, id: number): object => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    version: "1.0",
    added_tokens: [special("<|endoftext|>", 264), special("<|im_start|>", 265), special("<|im_end|>", 266)],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      vocab,
      merges: MERGES,
    },
  };
}

/** A folder with the given files, removed after the test; values that are not texts are written as JSON. */
export function folderOf(t: TestContext, files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-data-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(
      join(folder, name),
      typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content),
    );
  }
  return folder;
}

export function testTokenizer(t: TestContext, config: Record<string, unknown> = {}): Tokenizer {
  const named = { bos_token: null, eos_token: "<|im_end|>", pad_token: "<|endoftext|>", ...config };
  return loadTokenizer(folderOf(t, { "tokenizer.json": tokenizerJson(), "tokenizer_config.json": named }));
}
