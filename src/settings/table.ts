// What a table of settings is, and the TypeScript type that follows from it. Any command can have its own table; that
// of `train` is the largest. Only shapes and names: values.ts reads values, resolve.ts combines them.

export type Plain = string | number | boolean;
export type SettingValue = Plain | readonly (string | number)[] | Readonly<Record<string, Plain>>;

type Default<T> =
  | { readonly default: T; readonly required?: false }
  | { readonly required: true; readonly default?: undefined };

/** One value; with `list` several different ones: a,b,c as a flag, [a, b, c] in a file. */
type OneOrList<T> = ({ readonly list?: false } & Default<T>) | ({ readonly list: true } & Default<readonly T[]>);

interface Described {
  /** One line: what it is, its unit, a good value. */
  readonly about: string;
  /** Heading in --help and in the docs. */
  readonly group?: string;
  /** What stands for the value in --help, such as FOLDER. */
  readonly metavar?: string;
  /**
   * Other defaults, used if the setting `given` is given and all of `when` hold, which are values or patterns for
   * texts. The first that applies counts.
   */
  readonly otherwise?: readonly {
    readonly given: string;
    readonly when?: Readonly<Record<string, SettingValue | RegExp>>;
    readonly value: SettingValue;
  }[];
}

/**
 * Bounds of a number: `min` and `max` belong to the range, `above` and `below` do not; `oneOf` lists all allowed
 * values.
 */
export interface Range {
  readonly min?: number;
  readonly max?: number;
  readonly above?: number;
  readonly below?: number;
  readonly oneOf?: readonly number[];
  /** The allowed values in words, if a list would be long. */
  readonly expected?: string;
}

export type SettingRow = Described &
  (
    | ({
        readonly kind: "string";
        readonly pattern?: RegExp;
        readonly expected?: string;
        /** A list is also accepted, in a file or as several words after a flag, and kept as this text. */
        readonly fromList?: (list: readonly unknown[]) => string;
        /** For a list: a word is one value, including its commas, and several words may follow the flag. */
        readonly wholeWords?: boolean;
      } & OneOrList<string>)
    | ({ readonly kind: "integer" | "number" } & Range & OneOrList<number>)
    | ({ readonly kind: "boolean" } & Default<boolean>)
    | ({ readonly kind: "choice"; readonly choices: readonly string[] } & OneOrList<string>)
    | ({ readonly kind: "map" } & Default<Readonly<Record<string, string>>>)
    | ({ readonly kind: "values" } & Default<Readonly<Record<string, Plain>>>)
  );

/** Rows by name; names are snake_case, as in TRL and transformers. */
export type SettingRows = Readonly<Record<string, SettingRow>>;

type ValueOf<Row> = Row extends { list: true } ? readonly OneOf<Row>[] : OneOf<Row>;

type OneOf<Row> = Row extends { kind: "choice"; choices: readonly (infer Choice)[] }
  ? Choice
  : Row extends { kind: "string" }
    ? string
    : Row extends { kind: "integer" | "number" }
      ? number
      : Row extends { kind: "boolean" }
        ? boolean
        : Row extends { kind: "map" }
          ? Readonly<Record<string, string>>
          : Row extends { kind: "values" }
            ? Readonly<Record<string, Plain>>
            : never;

/** The record that a table's rows describe. */
export type SettingsOf<Rows extends SettingRows> = { -readonly [Name in keyof Rows]: ValueOf<Rows[Name]> };

/** What a program may give for one setting; a text that can be written as a list of sources may be given as a list. */
type GivenValue<Row> = Row extends { fromList: unknown } ? ValueOf<Row> | readonly unknown[] : ValueOf<Row>;

type RequiredOf<Rows> = { [Name in keyof Rows]: Rows[Name] extends { required: true } ? Name : never }[keyof Rows];

/** Settings as a program gives them: those the table requires, and any of the others. */
export type SettingsInput<Rows extends SettingRows> = { [Name in RequiredOf<Rows>]: GivenValue<Rows[Name]> } & {
  [Name in Exclude<keyof Rows, RequiredOf<Rows>>]?: GivenValue<Rows[Name]>;
};

export interface SettingsTable<Rows extends SettingRows = SettingRows> {
  readonly rows: Rows;
  /** Names from other trainers, and what to use here; completes "NAME is unknown. ". */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** Checks settings against each other; returns the first problem as a whole message, or undefined. */
  check?(settings: SettingsOf<Rows>, given: Given): string | undefined;
}

/** What the person gave, as opposed to defaults, and how messages name it. */
export interface Given {
  has(name: string): boolean;
  /** For the start of a message: `--gamma 0.5`, `run.yaml:7: gamma 0.5` or `gamma 0.25 (the default)`. */
  subject(name: string): string;
  /** For inside a message: `--gamma 0.5`, `gamma 0.5 (run.yaml:7)` or `gamma 0.25 (the default)`. */
  mention(name: string): string;
}

/** `--learning-rate` for learning_rate. */
export const flagOf = (name: string): string => `--${name.replaceAll("_", "-")}`;

/** learning_rate for `learning-rate`. */
export const nameOf = (flag: string): string => flag.replaceAll("-", "_");

/** Whether two values of one row are equal; maps are compared by entries, in any order. */
export function isSame(a: SettingValue, b: SettingValue | undefined): boolean {
  if (typeof a !== "object" || typeof b !== "object") return a === b;
  const entries = Object.entries(a);
  const others = new Map<string, unknown>(Object.entries(b));
  return entries.length === others.size && entries.every(([key, value]) => others.get(key) === value);
}
