// Every coupling, in the order of --help. A new one is a file beside this and a line in the list; settings, their
// checks, the fields of revmoe.json and what plans compare follow from its definition.
import type { Given, SettingRow, SettingRows, SettingsOf } from "../../settings/table.js";
import type { Coupling } from "../coupling.js";
import { ADDITIVE } from "./additive.js";
import { BDIA } from "./bdia.js";
import type { CouplingDefinition, Described, SharedSettings } from "./definition.js";
import { gammaRows } from "./gamma.js";
import { MOMENTUM } from "./momentum.js";
import { ORDINARY } from "./ordinary.js";
import { REVFFN } from "./revffn.js";

const ALL = [MOMENTUM, BDIA, ADDITIVE, REVFFN, ORDINARY] as const;
/** The same list with one common type, for code that treats all alike. */
const EVERY = ALL as readonly CouplingDefinition[];

type Definition = (typeof ALL)[number];
export type CouplingName = Definition["name"];
export const COUPLING_NAMES: readonly CouplingName[] = ALL.map(({ name }) => name);
export const DEFAULT_COUPLING = MOMENTUM.name;

type Intersection<Union> = (Union extends unknown ? (each: Union) => void : never) extends (all: infer All) => void
  ? { [Key in keyof All]: All[Key] }
  : never;
type RowsOf<One> = One extends CouplingDefinition<string, infer Rows, infer _Fields, infer _Planned> ? Rows : never;
type PlannedOf<One> = One extends { rows: infer Rows; planned: readonly (infer Name)[] }
  ? Pick<Rows, Name & keyof Rows>
  : never;
type DescribedOf<One> =
  One extends CouplingDefinition<string, infer Rows, infer Fields, infer _Planned> ? Described<Rows, Fields> : never;
type SettingOf<One> = One extends { fields: infer Fields }
  ? Extract<Fields[keyof Fields], { setting: string }>["setting"]
  : never;

/** All settings of `train` that belong to one coupling. */
export const COUPLING_ROWS = Object.assign({}, ...ALL.map(({ rows }) => rows)) as Intersection<RowsOf<Definition>>;
/** Those of them that decide memory. */
export const PLANNED_COUPLING_ROWS = Object.assign(
  {},
  ...EVERY.map(({ rows, planned }) => Object.fromEntries(planned.map((name) => [name, rows[name]]))),
) as Intersection<PlannedOf<Definition>>;
/** Settings that several couplings have. */
export const SHARED_COUPLING_ROWS = gammaRows(ALL);

type AllRows = typeof COUPLING_ROWS & typeof SHARED_COUPLING_ROWS;
export type CouplingSettings = SettingsOf<AllRows>;
/** The fields that a description may have for its coupling, beside the name. */
export type DescribedFields = Partial<Intersection<DescribedOf<Definition>>>;
/** The settings that descriptions hold. */
export type DescribedSettings = Pick<CouplingSettings, SettingOf<Definition>>;

const definitionOf = (name: CouplingName): CouplingDefinition =>
  EVERY.find((each) => each.name === name) as CouplingDefinition;

/** Names of the settings whose value decides the network. */
export const DESCRIBED_SETTINGS = [
  ...new Set(EVERY.flatMap(({ fields }) => Object.values(fields).map((f) => f.setting))),
] as (keyof DescribedSettings)[];

/** Completes "how the residual streams pass through a block; ". */
export const COUPLINGS_ABOUT = EVERY.filter(({ about }) => about !== undefined)
  .map(({ name, about }) => `${name} ${about}`)
  .join("; ");

export const isCouplingName = (name: unknown): name is CouplingName =>
  (COUPLING_NAMES as readonly unknown[]).includes(name);

export const hasGamma = (name: CouplingName): boolean => definitionOf(name).gamma !== undefined;
export const COUPLINGS_WITH_GAMMA = COUPLING_NAMES.filter(hasGamma);

/** The fields of a description for a coupling with these settings. */
export const describeCoupling = (name: CouplingName, settings: DescribedSettings): DescribedFields =>
  Object.fromEntries(
    Object.entries(definitionOf(name).fields).map(([field, { setting }]) => [
      field,
      settings[setting as keyof DescribedSettings],
    ]),
  );

/**
 * Whether `read` has all fields that this coupling needs, and every coupling's field in it has a possible type or
 * choice.
 */
export const isDescribed = (name: CouplingName, read: Readonly<Record<string, unknown>>): boolean =>
  EVERY.every((definition) =>
    Object.entries(definition.fields).every(([field, { setting, before }]) => {
      if (read[field] === undefined) return definition.name !== name || before !== undefined;
      const row: SettingRow = (ROWS as SettingRows)[setting];
      return row.kind === "choice" ? row.choices.includes(read[field] as string) : typeof read[field] === "number";
    }),
  );

const ROWS: AllRows = { ...COUPLING_ROWS, ...SHARED_COUPLING_ROWS };

/**
 * Makes the coupling of a description; `settings` say how its inverse is computed, and are needed for training only.
 */
export function makeCoupling(
  { coupling, ...described }: { coupling: CouplingName } & DescribedFields,
  settings?: CouplingSettings,
): Coupling {
  const { fields, make } = definitionOf(coupling);
  const read = described as Record<string, unknown>;
  const whole = Object.entries(fields).map(([field, { before }]) => [field, read[field] ?? before]);
  return make(Object.fromEntries(whole), settings as SettingsOf<SettingRows> | undefined);
}

/** A plan's word for what is kept for the inverse beside streams and stored bits. */
export const keptOf = (name: CouplingName): string | undefined => definitionOf(name).kept;

export const whenDiverged = (name: CouplingName): string => definitionOf(name).whenDiverged ?? "";

/** The rebuilding couplings that plans show side by side. */
export const COMPARED_COUPLINGS: readonly { coupling: CouplingName; gamma?: number }[] = COUPLING_NAMES.flatMap(
  (name) => definitionOf(name).compared.map((settings) => ({ coupling: name, ...settings })),
);

interface Chosen extends CouplingSettings, SharedSettings {
  coupling: CouplingName;
}

/** Why a model of this hidden size cannot be trained with the chosen coupling, as a whole message. */
export const widthProblem = (settings: Chosen, hiddenSize: number): string | false =>
  definitionOf(settings.coupling).widthProblem?.(settings as never, hiddenSize) ?? false;

/**
 * The first problem with a coupling's own settings: given with another coupling, without effect as nothing is rebuilt,
 * or excluding each other.
 */
export function couplingProblem(settings: Chosen, rebuilds: boolean, at: Given): string | false {
  for (const { name, rows } of ALL) {
    const idle = name === settings.coupling ? undefined : Object.keys(rows).find((row) => at.has(row));
    if (idle !== undefined)
      return `${at.subject(idle)} has no effect: only coupling ${name} has it, not ${at.mention("coupling")}. Remove ${idle}, or set coupling to ${name}.`;
  }
  const { inverse = [], checks = [] } = definitionOf(settings.coupling);
  for (const check of checks) {
    const problem = check(settings as never, at);
    if (problem !== false) return problem;
  }
  const idle = rebuilds ? undefined : inverse.find((row) => at.has(row));
  return (
    idle !== undefined &&
    `${at.subject(idle)} has no effect: nothing is rebuilt with ${at.mention("method")}. Remove ${idle}, or set method to reversible.`
  );
}
