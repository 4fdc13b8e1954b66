// A table of settings as a JSON Schema (draft 7, which editors read) of the YAML files that give them: names, types,
// ranges, choices, defaults and descriptions. A file may lack settings that a command requires, since flags may give
// them. Rules about several settings are not in the schema: the command checks them.
import { MOST_OF_ANY } from "./limits.js";
import type { Range, SettingRow, SettingsTable } from "./table.js";
import { expectation, FRACTION } from "./values.js";

export type JsonSchema = Readonly<Record<string, unknown>>;

export function schemaOf({ rows }: SettingsTable, title: string): JsonSchema {
  const properties = Object.entries(rows).map(([name, row]) => [
    name,
    {
      description: `${row.about} (${expectation(row)}${row.required === true ? "; required" : ""})`,
      ...(row.default !== undefined && { default: row.default }),
      ...valueSchema(row),
    },
  ]);
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title,
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(properties) as JsonSchema,
  };
}

function valueSchema(row: SettingRow): JsonSchema {
  if (!("list" in row) || row.list !== true) return oneSchema(row);
  const items = oneSchema(row);
  const least = row.default?.length === 0 ? 0 : 1;
  return { anyOf: [items, { type: "array", items, uniqueItems: true, minItems: least }] };
}

function oneSchema(row: SettingRow): JsonSchema {
  switch (row.kind) {
    case "string": {
      // An unquoted 2024 may be meant as text.
      const text = {
        type: ["string", "number"],
        ...patternOf(row.pattern),
        ...(row.required === true && { minLength: 1 }),
      };
      return row.fromList === undefined ? text : { anyOf: [text, { type: "array", minItems: 1 }] };
    }
    case "choice":
      return { enum: row.choices };
    case "boolean":
      return { type: "boolean" };
    case "integer":
      return { type: "integer", ...rangeOf(row, MOST_OF_ANY) };
    case "number": {
      const fraction = { type: "string", pattern: FRACTION.source };
      return { anyOf: [{ type: "number", ...rangeOf(row) }, fraction] };
    }
    case "map":
      return { type: "object", additionalProperties: { type: "string" } };
    case "values":
      return { type: "object", additionalProperties: { type: ["string", "number", "boolean"] } };
  }
}

/** Only for patterns without flags: a schema has no flags, so texts that ignore case are not checked. */
const patternOf = (pattern: RegExp | undefined): JsonSchema =>
  pattern === undefined || pattern.flags !== "" ? {} : { pattern: pattern.source };

const rangeOf = ({ min, max, above, below, oneOf }: Range, usual?: number): JsonSchema =>
  oneOf !== undefined
    ? { enum: oneOf }
    : {
        ...(min !== undefined ? { minimum: min } : above === undefined && usual !== undefined && { minimum: -usual }),
        ...(max !== undefined ? { maximum: max } : below === undefined && usual !== undefined && { maximum: usual }),
        ...(above !== undefined && { exclusiveMinimum: above }),
        ...(below !== undefined && { exclusiveMaximum: below }),
      };
