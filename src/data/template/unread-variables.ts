// Variables for a chat template that its source does not mention: misspelled, or meant for another model.
import { quoted } from "../limits.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** A sentence for each variable that no template of the tokenizer reads. */
export function unreadVariables({ chatTemplates }: Tokenizer, kwargs: Record<string, unknown> = {}): string[] {
  const words = new Set(Object.values(chatTemplates).flatMap((source) => source.match(/\w+/g) ?? []));
  return Object.keys(kwargs)
    .filter((name) => !words.has(name))
    .map(
      (name) =>
        `chat_template_kwargs: the chat template reads no variable "${quoted(name)}", so it changes nothing. Mend its name, or leave it out.`,
    );
}
