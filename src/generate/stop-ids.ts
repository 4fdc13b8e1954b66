// Which tokens end a text: those that the model's files name, and in a chat the one that its template puts behind a turn,
// which need not be among them.
import { join } from "node:path";

import { parseJsonObject } from "../checkpoint/folder.js";
import type { ModelFiles } from "../checkpoint/source.js";
import { renderChat } from "../data/template/template.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";

const PROBE = "probe";

/** `chat`: whether the model answers in the form of the tokenizer's chat template. */
export function findStopIds(files: ModelFiles, tokenizer: Tokenizer, { chat }: { chat: boolean }): Set<number> {
  const named = ["generation_config.json", "config.json"].flatMap((name) => eosIds(files, name));
  const all = [...named, tokenizer.eosId, chat ? turnEnd(tokenizer) : undefined];
  return new Set(all.filter((id) => id !== undefined));
}

/** eos_token_id is an id, a list of them, null or absent. */
function eosIds(files: ModelFiles, name: string): number[] {
  const bytes = files.readFile(name);
  if (!bytes) return [];
  return [parseJsonObject(() => Buffer.from(bytes).toString("utf8"), join(files.path, name)).eos_token_id]
    .flat()
    .filter((id) => typeof id === "number");
}

/** The special token that follows an assistant's words, if one does. */
function turnEnd(tokenizer: Tokenizer): number | undefined {
  const turns = [
    { role: "user", content: "?" },
    { role: "assistant", content: PROBE },
  ];
  const text = renderChat(tokenizer, turns, { addGenerationPrompt: false });
  const tail = text.slice(text.lastIndexOf(PROBE) + PROBE.length).trimStart();
  const first = tokenizer.encode(tail, PROBE).at(0);
  // Special tokens are those that decoding leaves out.
  return first !== undefined && tokenizer.decode([first]) === "" ? first : undefined;
}
