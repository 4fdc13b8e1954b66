// The prompts of a run's samples as tokens, in the form of its rows: if these are conversations, a prompt is a user's
// message in the chat template. All errors in prompts are found here, before weights are read.
import { existsSync } from "node:fs";

import type { ModelSource } from "../../checkpoint/source.js";
import { ROW_KINDS } from "../../data/conversations/registry.js";
import type { RowFormat } from "../../data/conversations/row-kind.js";
import type { Tokenizer } from "../../data/tokenizer/tokenizer.js";
import { UserError } from "../../errors.js";
import { readArchitecture } from "../../families/registry.js";
import { checkPrompt, roomBehind } from "../../generate/generate.js";
import { encodePrompt } from "../../generate/prompt.js";
import { findStopIds } from "../../generate/stop-ids.js";
import { readWholeFile, statOf } from "../../read-file.js";
import type { TrainSettings } from "../settings/settings.js";

export interface SamplePrompt {
  text: string;
  ids: number[];
  /** Most tokens of a sample. */
  maxNewTokens: number;
}

export interface Samples {
  prompts: readonly SamplePrompt[];
  stopIds: ReadonlySet<number>;
}

type Asked = Pick<TrainSettings, "sample_prompts" | "sample_tokens" | "chat_template_kwargs">;
/** What a run knows before its weights are read. */
interface Known {
  source: ModelSource;
  tokenizer: Tokenizer;
  formats: readonly RowFormat[];
}

/** Matches what is meant as the name of a file, not as a text. */
const FILE_NAME = /^\S+\.(txt|text|md|jsonl?|csv)$/i;
const MOST_PROMPTS = 100;

/** Errors: UserError for a prompt that is empty or too long, and for a file that is not there. */
export function readPrompts(asked: Asked, { source, tokenizer, formats }: Known): Samples {
  const texts = asked.sample_prompts.flatMap(textsOf);
  if (texts.length > MOST_PROMPTS) {
    throw new UserError(
      `sample_prompts: there are ${texts.length} prompts (expected at most ${MOST_PROMPTS}, for training waits for them). Give fewer.`,
    );
  }
  const isOfTurns = formats.some((format) => ROW_KINDS[format].makes.includes("messages"));
  const chat = isOfTurns && tokenizer.chatTemplate !== undefined;
  const architecture = texts.length === 0 ? null : readArchitecture(source.config, source.configPath);
  const prompts = texts.map((text, i) => {
    const place = `sample_prompts, prompt ${i + 1}`;
    const { ids } = encodePrompt(tokenizer, text, { chat, kwargs: asked.chat_template_kwargs, place });
    if (architecture === null) return { text, ids, maxNewTokens: 0 };
    const maxNewTokens = Math.max(1, Math.min(asked.sample_tokens, roomBehind(architecture, ids.length)));
    checkPrompt(architecture, ids, maxNewTokens, place);
    return { text, ids, maxNewTokens };
  });
  return { prompts, stopIds: prompts.length === 0 ? new Set() : findStopIds(source, tokenizer, { chat }) };
}

/** A text, or the lines of the file with this name. */
function textsOf(given: string): string[] {
  // Most texts are too long to be a path.
  if (!existsSync(given) || statOf(given)?.isFile() !== true) {
    if (!FILE_NAME.test(given)) return [given];
    throw new UserError(
      `sample_prompts: there is no file ${given} (expected a file with a prompt on each line, or a text). Mend the path.`,
    );
  }
  const lines = readWholeFile(given).toString().split(/\r?\n/);
  const prompts = lines.filter((line) => line.trim() !== "");
  if (prompts.length === 0)
    throw new UserError(
      `sample_prompts: ${given} has no lines (expected a prompt on each). Write some, or give a text.`,
    );
  return prompts;
}
