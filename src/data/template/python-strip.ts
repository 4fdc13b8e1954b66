// Templates are written for Python, whose strip, lstrip and rstrip take the characters to remove: Qwen3's keeps the
// indentation of an answer with lstrip('\n'). The template library ignores that argument and removes all white space, so
// calls that have one go to a function of ours, which the template gets by a name.
import type { Template } from "@huggingface/jinja";

const NAME = "revmoe_strip";
const METHODS = ["strip", "lstrip", "rstrip"];

/** What a rewritten template needs among its variables. */
export const STRIP_VARIABLES = { [NAME]: strip };

/** As Python's methods of that name: takes characters of `characters` off the ends that `method` is about. */
export function strip(text: unknown, method: string, characters: unknown): string {
  if (typeof text !== "string") throw new Error(`${method} is called on something that is no text`);
  const set = typeof characters === "string" ? new Set(characters) : undefined;
  const goes = (letter: string): boolean => (set === undefined ? letter.trim() === "" : set.has(letter));
  const letters = Array.from(text);
  let [start, end] = [0, letters.length];
  while (method !== "rstrip" && start < end && goes(letters[start])) start++;
  while (method !== "lstrip" && end > start && goes(letters[end - 1])) end--;
  return letters.slice(start, end).join("");
}

/** The template with such calls rewritten, in place. */
export function withPythonStrip(template: Template): Template {
  rewrite(template.parsed);
  return template;
}

interface Node {
  type?: string;
  [key: string]: unknown;
}

function rewrite(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const child of Object.values(node)) rewrite(child);
  const { type, callee, args } = node as Node;
  const { type: kind, object, property, computed } = (callee ?? {}) as Node;
  const method = (property as Node | undefined)?.value;
  if (
    type !== "CallExpression" ||
    kind !== "MemberExpression" ||
    computed === true ||
    !METHODS.includes(method as string)
  )
    return;
  const given = args as unknown[];
  if (given.length === 0) return;
  Object.assign(node, {
    callee: { type: "Identifier", value: NAME },
    args: [object, { type: "StringLiteral", value: method }, ...given],
  });
}
