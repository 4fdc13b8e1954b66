// All that the program knows of a coupling beside its arithmetic: name, help, settings, checks, and its fields in
// revmoe.json. Each file of this folder exports one, registry.ts lists them; settings, checks, files, plans and docs
// follow.
import type { Given, SettingRow, SettingRows, SettingsOf } from "../../settings/table.js";
import type { Coupling } from "../coupling.js";

/** Heading of the settings that several couplings have, in --help and in the docs. */
export const REVERSIBLE_GROUP = "Reversible blocks and memory";

/** Settings of `train` that a coupling may read beside its own. */
export interface SharedSettings {
  gamma: number;
  /** 0: gamma does not change. */
  gamma_final: number;
  stream: "int32" | "int64" | "float32";
}

/** A field of revmoe.json: the setting that it holds, and its value in files from before the field existed. */
export interface DescribedField<Setting extends string = string> {
  readonly setting: Setting;
  readonly before?: string | number;
}

/** The values of described fields. A field whose setting is not the coupling's own holds gamma. */
export type Described<Rows extends SettingRows, Fields extends Readonly<Record<string, DescribedField>>> = {
  [Field in keyof Fields]: Fields[Field]["setting"] extends keyof Rows
    ? SettingsOf<Rows>[Fields[Field]["setting"]]
    : number;
};

/** How a coupling uses the setting `gamma`. */
export interface GammaUse {
  /** Completes the help of gamma, behind the coupling's name. */
  readonly about?: string;
  /** The coupling's own defaults of gamma. */
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
  /** Settings of `train` that only this coupling has; refused with others. */
  readonly rows: Rows;
  /** Those of `rows` that decide memory; `plan` has them too. */
  readonly planned: readonly Planned[];
  /** Those of `rows` that only say how the inverse is computed; without effect where nothing is rebuilt. */
  readonly inverse?: readonly (keyof Rows & string)[];
  readonly gamma?: GammaUse;
  /** Its fields in revmoe.json. A network that is opened knows nothing else of the coupling. */
  readonly fields: Fields;
  /** What is kept for the inverse beside streams and stored bits, in the words of a plan. */
  readonly kept?: string;
  /** The advice where an inverse by iteration did not converge. */
  readonly whenDiverged?: string;
  /** The values of gamma with which `plan --compare` shows it; empty where nothing is rebuilt. */
  readonly compared: readonly { readonly gamma?: number }[];
  /** Checks for settings that exclude each other; each returns a whole message. */
  readonly checks?: readonly ((settings: SettingsOf<Rows> & SharedSettings, at: Given) => string | false)[];
  /** Why a model of this hidden size cannot have the coupling, as a whole message. */
  widthProblem?(settings: SettingsOf<Rows> & SharedSettings, hiddenSize: number): string | false;
  /**
   * Makes the coupling; `settings` are needed for training, not for the forward direction. Throws a UserError for
   * impossible values.
   */
  make(described: Described<Rows, Fields>, settings?: SettingsOf<Rows>): Coupling;
}

/** Returns the definition with its exact types. */
export const defineCoupling = <
  const Name extends string,
  const Rows extends SettingRows,
  const Fields extends Readonly<Record<string, DescribedField<(keyof Rows & string) | "gamma">>>,
  Planned extends keyof Rows,
>(
  definition: CouplingDefinition<Name, Rows, Fields, Planned>,
): CouplingDefinition<Name, Rows, Fields, Planned> => definition;
