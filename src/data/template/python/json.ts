// The filter `tojson` as in transformers: Python's json.dumps, which by default keeps non-ASCII letters.
import { boundIndent } from "../bounds.js";
import {
  compareTexts,
  floatText,
  hasKeys,
  isInteger,
  isList,
  isNone,
  isText,
  isTrue,
  numberOf,
  str,
} from "./values.js";
import { typeOf, type Value } from "./values.js";

interface Style {
  ascii: boolean;
  /** Indentation per level; undefined: all on one line. */
  indent: string | undefined;
  separators: [item: string, key: string];
  sorted: boolean;
}

/** `named` are Python's parameters. Errors: for values without JSON: undefined, functions. */
export function toJson(value: Value, named: Partial<Record<string, Value>>): string {
  const { ensure_ascii: ascii, indent, separators, sort_keys: sorted } = named;
  const style: Style = {
    ascii: ascii !== undefined && isTrue(ascii),
    indent: indent === undefined || isNone(indent) ? undefined : indentOf(indent),
    separators: [", ", ": "],
    sorted: sorted !== undefined && isTrue(sorted),
  };
  if (style.indent !== undefined) style.separators[0] = ",";
  if (separators !== undefined && !isNone(separators)) {
    if (!isList(separators) || separators.value.length !== 2) throw new Error("separators must be two texts");
    style.separators = [str(separators.value[0]), str(separators.value[1])];
  }
  return dump(value, style, "\n");
}

function indentOf(value: Value): string {
  if (isText(value)) return value.value;
  const blanks = Number(numberOf(value));
  boundIndent(blanks);
  return " ".repeat(Math.max(0, blanks));
}

function dump(value: Value, style: Style, line: string): string {
  if (isText(value)) return text(value.value, style);
  if (isNone(value)) return "null";
  if (value.type === "BooleanValue") return String(value.value);
  if (isInteger(value)) return String(value.value);
  if (value.type === "FloatValue")
    return floatText(value.value as number)
      .replace("nan", "NaN")
      .replace("inf", "Infinity");
  const deeper = line + (style.indent ?? "");
  if (isList(value))
    return enclose(
      "[]",
      value.value.map((item) => dump(item, style, deeper)),
      style,
      line,
    );
  if (!hasKeys(value) || value.type === "NamespaceValue")
    throw new Error(`Object of type ${typeOf(value)} is not JSON serializable`);
  const entries = [...value.value];
  if (style.sorted) entries.sort(([a], [b]) => compareTexts(a, b));
  const items = entries.map(([key, item]) => text(key, style) + style.separators[1] + dump(item, style, deeper));
  return enclose("{}", items, style, line);
}

function enclose([open, close]: string, items: string[], { indent, separators }: Style, line: string): string {
  if (items.length === 0) return open + close;
  if (indent === undefined) return open + items.join(separators[0]) + close;
  return open + line + indent + items.join(separators[0] + line + indent) + line + close;
}

function text(value: string, { ascii }: Style): string {
  // Only JSON.stringify escapes lone surrogates; Python leaves them.
  const quoted = JSON.stringify(value).replaceAll(/\\\\|\\u(d[89a-f][0-9a-f]{2})/g, (found, code?: string) =>
    code === undefined ? found : String.fromCharCode(Number.parseInt(code, 16)),
  );
  if (!ascii) return quoted;
  return quoted.replaceAll(/[\x7f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
