// Which tokens end a text: those that the model's files name, and in a chat also the one that its template puts after a
// turn, which the files may not name.
import { endIdsIn, GENERATION_FILE } from "../checkpoint/end-ids.js";
import type { ModelFiles } from "../checkpoint/source.js";
import type { Tokenizer } from "../data/tokenizer/tokenizer.js";
import { turnEnd } from "../data/turn-end.js";

/** `chat`: whether the model answers in the form of the tokenizer's chat template. */
export function findStopIds(files: ModelFiles, tokenizer: Tokenizer, { chat }: { chat: boolean }): Set<number> {
  const named = [GENERATION_FILE, "config.json"].flatMap((name) => endIdsIn(files, name));
  const all = [...named, tokenizer.eosId, chat ? turnEnd(tokenizer) : undefined];
  return new Set(all.filter((id) => id !== undefined));
}
