// A settings file: a flat YAML map, one setting a line. Gives each value with its place, "run.yaml:7:", for messages.
// YAML 1.2 as the `yaml` package reads it: 1e-5 and 1.0e-5 are numbers, yes and no are words.
import { createRequire } from "node:module";

import type * as Yaml from "yaml";

import { UserError } from "../errors.js";
import { readWholeFile, statOf } from "../read-file.js";
import type { Entry } from "./values.js";

/** Loaded only when there is a file to read, because it takes a third of a command's time to start. */
const yaml = (): typeof Yaml => createRequire(import.meta.url)("yaml") as typeof Yaml;

/** Many times the size of all settings; YAML is slow to read. */
const LARGEST_BYTES = 2 ** 18;

/** Names of files of rows, given by mistake as a file of settings. */
const ROWS_NAME = /\.(jsonl|ndjson|csv|tsv|parquet|arrow|txt)(\.gz|\.zst)?$/i;

/** The entries of a settings file, in order; empty for an empty file. */
export function readSettingsFile(path: string): (Entry & { place: string })[] {
  const source = readText(path);
  const { isMap, isScalar, LineCounter } = yaml();
  const lines = new LineCounter();
  const document = parse(path, source, lines);
  const placeOf = (offset: number): string => `${path}:${lines.linePos(offset).line}:`;
  const fault = [...document.errors, ...document.warnings][0];
  if (fault) throw new UserError(`${placeOf(fault.pos[0])} ${faultWords(fault, source)}`);
  if (document.contents === null) return [];
  if (!isMap(document.contents)) {
    throw new UserError(
      `${placeOf(span(document.contents)[0])} not a map of settings (expected lines such as "learning_rate: 1e-5").`,
    );
  }
  return document.contents.items.map(({ key, value }) => {
    const place = placeOf(span(key)[0]);
    const name = isScalar(key) ? String(key.value) : source.slice(...span(key));
    const text = isScalar(value) && value.value !== null ? source.slice(...span(value)) : null;
    return { name, value: plainValue(value, document, place), text, place };
  });
}

function parse(path: string, source: string, lineCounter: Yaml.LineCounter): Yaml.Document.Parsed {
  try {
    return yaml().parseDocument(source, { lineCounter, prettyErrors: false });
  } catch (failure) {
    // Endlessly nested lists.
    if (failure instanceof RangeError)
      throw new UserError(`${path}: is nested too deeply (expected a flat map of settings).`);
    throw failure;
  }
}

/** What is wrong with the text; in our own words if the package's are for programmers. */
function faultWords({ code, message, pos }: Yaml.YAMLParseError | Yaml.YAMLWarning, source: string): string {
  if (code === "DUPLICATE_KEY") {
    const name = /^["']?([^\s:"']+)/.exec(source.slice(pos[0]))?.[1] ?? "a name";
    return `${name} is given a second time. Remove one of the two lines.`;
  }
  if (code === "MULTIPLE_DOCS")
    return "a second document begins (expected one map of settings). Remove the line with ---, or what follows it.";
  if (/call stack/.test(message))
    return "lists or maps are nested too deeply (expected a flat map of settings). Write one setting a line.";
  return `not valid YAML: ${message.split("\n")[0].replace(/\.$/, "")}. Mend the line, or the one before it.`;
}

function plainValue(node: unknown, document: Yaml.Document.Parsed, place: string): unknown {
  if (!yaml().isNode(node)) return null;
  try {
    return node.toJS(document);
  } catch (failure) {
    // An alias without its anchor is found only here.
    throw new UserError(`${place} not valid YAML: ${(failure as Error).message}. Write the value out.`);
  }
}

const span = (node: unknown): [number, number] => {
  const [start, end] = (node as { range: [number, number, number] }).range;
  return [start, end];
};

function readText(path: string): string {
  const stats = statOf(path);
  if (!stats)
    throw new UserError(
      `${path || '""'}: there is no such settings file. Check the path, or give the settings as flags.`,
    );
  if (stats.isDirectory())
    throw new UserError(`${path}: is a folder (expected a YAML file of settings). Name the file inside it.`);
  if (ROWS_NAME.test(path))
    throw new UserError(`${path}: rows, by its name (expected a YAML file of settings). Give rows as train_file.`);
  return readWholeFile(path, LARGEST_BYTES).toString("utf8");
}
