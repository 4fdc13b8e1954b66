// A model's small files with what the settings of a run replace: the chat template, the end token. Results are saved
// with them, so that other tools read texts as they were trained.
import { jsonWith } from "../../checkpoint/config-text.js";
import { type ModelSource, withFiles } from "../../checkpoint/source.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { UserError } from "../../errors.js";
import { readWholeFile, statOf } from "../../read-file.js";
import type { TrainSettings } from "../settings/settings.js";

const CONFIG = "tokenizer_config.json";
const OLDER = "special_tokens_map.json";

type Given = Pick<TrainSettings, "chat_template" | "eos_token">;

/** Errors: UserError for a template that cannot be read, and a token that the tokenizer does not have. */
export function withGivenFiles(source: ModelSource, { chat_template, eos_token }: Given): ModelSource {
  const templated = chat_template === "" ? source : withTemplate(source, chat_template);
  return eos_token === "" ? templated : withEndToken(templated, eos_token);
}

/** Replaces all templates of the model. */
function withTemplate(source: ModelSource, path: string): ModelSource {
  if (statOf(path)?.isFile() !== true) {
    throw new UserError(
      `chat_template: there is no file ${path} (expected a file with a Jinja template). Mend the path.`,
    );
  }
  const template = readWholeFile(path);
  const config = source.readFile(CONFIG);
  const text = config && Buffer.from(config).toString("utf8");
  // Readers differ in which of the two files they take the template from.
  const changed = text?.includes('"chat_template"')
    ? { [CONFIG]: Buffer.from(jsonWith(text, { chat_template: template.toString("utf8") })) }
    : {};
  return { ...withFiles(source, { "chat_template.jinja": template, ...changed }), list: () => [] };
}

function withEndToken(source: ModelSource, token: string): ModelSource {
  if (loadTokenizer(source).idOf(token) === undefined) {
    throw new UserError(
      `eos_token: "${token}" is not in the vocabulary of ${source.path} (expected a token of its tokenizer.json). Mend it, or add it with add_special_tokens.`,
    );
  }
  const changed = [CONFIG, OLDER].flatMap((name) => {
    const bytes = source.readFile(name);
    if (!bytes && name === OLDER) return [];
    const text = bytes ? Buffer.from(bytes).toString("utf8") : "{}\n";
    return [[name, Buffer.from(jsonWith(text, { eos_token: token }))] as const];
  });
  return withFiles(source, Object.fromEntries(changed));
}
