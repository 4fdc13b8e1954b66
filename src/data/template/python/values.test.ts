// Values as templates print, compare and take them apart, against transformers' own engine (test/golden/make_template_values.py):
// the row is read as rows of a file are, and each expression prints the same, or is refused where Python refuses it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseJsonRow } from "../../json-values.js";
import { readTemplate, renderTemplate } from "../bounded-template.js";

const golden = JSON.parse(
  readFileSync(new URL("../../../../test/golden/templates/values.json", import.meta.url), "utf8"),
) as { row: string; printed: Record<string, string | null> };

function print(expression: string, row: Record<string, unknown>): string | null {
  try {
    return renderTemplate(readTemplate(expression), row);
  } catch {
    return null;
  }
}

test("expressions print what transformers prints, or are refused as there", () => {
  const row = parseJsonRow(golden.row) as Record<string, unknown>;
  const printed = Object.keys(golden.printed).map((expression) => [expression, print(expression, row)]);
  assert(printed.length > 200);
  assert.deepEqual(Object.fromEntries(printed), golden.printed);
});
