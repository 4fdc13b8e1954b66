// All that the program knows of a coupling beside its arithmetic: its name, help, settings and checks, and what revmoe.json
// says of it. Each file of this folder exports one, registry.ts lists them; settings, checks, files, plans and docs follow.
import type { Given, SettingRow, SettingRows, SettingsOf } from "../../settings/table.js";
import type { Coupling } from "../coupling.js";

/** Heading of the settings that several couplings have, in --help and in the docs. */
export const REVERSIBLE_GROUP = "Reversible blocks and memory";

/** Settings of `train` that a coupling may look at beside its own. */
export interface SharedSettings {
  gamma: number;
  /** 0 where gamma stays. */
  gamma_final: number;
  stream: "int32" | "int64" | "float32";
}

/** A field of revmoe.json: the value of a setting, and what it was in files of before it was written. */
export interface DescribedField<Setting extends string = string> {
  readonly setting: Setting;
  readonly before?: string | number;
}

/** The values of described fields. What is no setting of its own is gamma. */
export type Described<Rows extends SettingRows, Fields extends Readonly<Record<string, DescribedField>>> = {
  [Field in keyof Fields]: Fields[Field]["setting"] extends keyof Rows
    ? SettingsOf<Rows>[Fields[Field]["setting"]]
    : number;
};

/** How a coupling uses the setting `gamma`. */
export interface GammaUse {
  /** Completes the help of gamma, behind the coupling's name. */
  readonly about?: string;
  /** Its own defaults. */
  readonly otherwise: NonNullable<SettingRow["otherwise"]>;
}

export interface CouplingDefinition<
  Name extends string = string,
  Rows extends SettingRows = SettingRows,
  Fields extends Readonly<Record<string, DescribedField>> = Readonly<Record<string, DescribedField>>,
  Planned extends keyof Rows = keyof Rows,
> {
  readonly name: Name;
  /** Completes the help of the setting `coupling`, behind the name. */
  readonly about?: string;
  /** Settings of `train` that it alone has; refused with other couplings. */
  readonly rows: Rows;
  /** Those of them that decide memory, which `plan` has too. */
  readonly planned: readonly Planned[];
  /** Those of them that only say how the inverse is computed: without effect where nothing is rebuilt. */
  readonly inverse?: readonly (keyof Rows & string)[];
  readonly gamma?: GammaUse;
  /** What revmoe.json says of it; nothing else reaches a network that is opened. */
  readonly fields: Fields;
  /** What is kept for its inverse beside streams and stored bits, in the words of a plan. */
  readonly kept?: string;
  /** What to do where an inverse by iteration did not converge. */
  readonly whenDiverged?: string;
  /** With which gamma `plan --compare` shows it; empty where nothing is rebuilt. */
  readonly compared: readonly { readonly gamma?: number }[];
  /** What of its settings excludes each other, each a whole message. */
  readonly checks?: readonly ((settings: SettingsOf<Rows> & SharedSettings, at: Given) => string | false)[];
  /** Why a model of this hidden size cannot have it, as a whole message. */
  widthProblem?(settings: SettingsOf<Rows> & SharedSettings, hiddenSize: number): string | false;
  /** `settings` where it is trained; without them, for the forward direction alone. Throws a UserError for values that no network has. */
  make(described: Described<Rows, Fields>, settings?: SettingsOf<Rows>): Coupling;
}

/** The definition as it is, with its exact types. */
export const defineCoupling = <
  const Name extends string,
  const Rows extends SettingRows,
  const Fields extends Readonly<Record<string, DescribedField<(keyof Rows & string) | "gamma">>>,
  Planned extends keyof Rows,
>(
  definition: CouplingDefinition<Name, Rows, Fields, Planned>,
): CouplingDefinition<Name, Rows, Fields, Planned> => definition;
