// Chat templates other than the default one, which newer models keep as files in a folder. What we save has no folders,
// so all templates of such a model go into tokenizer_config.json, as a list of {name, template}; older readers know
// this form, too.
import { join } from "node:path";

import { parseJsonObject } from "./folder.js";
import type { ModelFiles } from "./model-files.js";

export const TEMPLATE_FOLDER = "additional_chat_templates";
const DEFAULT_FILE = "chat_template.jinja";
const CONFIG_FILE = "tokenizer_config.json";

/** The files of named templates in a model's folder, as FOLDER/NAME. */
export const namedTemplateFiles = (files: Pick<ModelFiles, "list">): string[] =>
  (files.list?.(TEMPLATE_FOLDER) ?? [])
    .filter((name) => /.\.jinja$/.test(name))
    .sort()
    .map((name) => `${TEMPLATE_FOLDER}/${name}`);

/** The copied files; if there are named templates, they are moved into tokenizer_config.json. */
export function foldTemplates(files: ModelFiles, copied: Map<string, Uint8Array>): Map<string, Uint8Array> {
  const named = namedTemplateFiles(files)
    .filter((name) => files.outside?.(name) === undefined)
    .map((name) => ({
      name: name.slice(TEMPLATE_FOLDER.length + 1, -".jinja".length),
      template: text(files.readFile(name)),
    }));
  if (named.length === 0) return copied;
  const { [DEFAULT_FILE]: alone, [CONFIG_FILE]: config, ...rest } = Object.fromEntries(copied);
  const stated = config ? parseJsonObject(() => text(config), join(files.path, CONFIG_FILE)) : {};
  const plain = alone ? text(alone) : stated.chat_template;
  const first = typeof plain === "string" ? [{ name: "default", template: plain }] : Array.isArray(plain) ? plain : [];
  const all = [...first.filter((entry) => !named.some(({ name }) => name === entry?.name)), ...named];
  const folded = `${JSON.stringify({ ...stated, chat_template: all }, null, 2)}\n`;
  return new Map([...Object.entries(rest), [CONFIG_FILE, Buffer.from(folded)]]);
}

const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("utf8");
