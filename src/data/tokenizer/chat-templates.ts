// The chat templates of a model, by name. Files come first, as in transformers: chat_template.jinja is the template
// named default, and files in additional_chat_templates/ give their names to theirs. Without files,
// tokenizer_config.json has either one text, the default, or a list of {name, template}.
import { join } from "node:path";

import { UserError } from "../../errors.js";
import { describe } from "../rows.js";
import { type Json, readText, type TokenizerFiles } from "./files.js";

const TEMPLATE_FILE = "chat_template.jinja";
export const TEMPLATE_FOLDER = "additional_chat_templates";
const ENDING = ".jinja";

/** Paths of a model's named templates, as FOLDER/NAME. */
const templateFiles = (files: Pick<TokenizerFiles, "list">): string[] =>
  (files.list?.(TEMPLATE_FOLDER) ?? [])
    .filter((name) => name.endsWith(ENDING) && name.length > ENDING.length)
    .sort()
    .map((name) => `${TEMPLATE_FOLDER}/${name}`);

/**
 * `config` is tokenizer_config.json. The template named default is first. Errors: UserError for a template that is no
 * text.
 */
export function findTemplates(files: TokenizerFiles, config: Json): Record<string, string> {
  const found: [string, string | undefined][] = [["default", readText(files, TEMPLATE_FILE)]];
  for (const file of templateFiles(files)) {
    const name = file.slice(TEMPLATE_FOLDER.length + 1, -ENDING.length);
    found.push([name, readText(files, file)]);
  }
  const written = found.some(([name, text]) => name === "default" && text !== undefined)
    ? []
    : templatesIn(config, join(files.path, "tokenizer_config.json"));
  const named = new Map<string, string>();
  for (const [name, text] of [...written, ...found]) if (text !== undefined) named.set(name, text);
  return Object.fromEntries(named);
}

/** The template for a conversation without tools: the one named default, else the first. */
export const plainTemplate = (templates: Record<string, string>): string | undefined =>
  Object.hasOwn(templates, "default") ? templates.default : Object.values(templates)[0];

function templatesIn({ chat_template: given }: Json, path: string): [string, string][] {
  if (given === undefined || given === null) return [];
  if (typeof given === "string") return [["default", given]];
  const list = Array.isArray(given) ? (given as (Json | null)[]) : [];
  const whole = list.every((entry) => typeof entry?.name === "string" && typeof entry.template === "string");
  if (whole && list.length > 0) return list.map((entry) => [entry?.name as string, entry?.template as string]);
  throw new UserError(
    `${path}: chat_template is ${describe(given)} (expected a text, or a list of {"name", "template"}).`,
  );
}
