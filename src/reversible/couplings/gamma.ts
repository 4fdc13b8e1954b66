// gamma, the factor on the momentum of some couplings: its possible values, its settings, and what it requires of a
// model.
import type { SettingRows } from "../../settings/table.js";
import { keptBits, MOST_BITS } from "../streams.js";
import { type GammaUse, REVERSIBLE_GROUP as group, type SharedSettings } from "./definition.js";

// +-1/2, +-1/4 to +-1/256: multiplying by these shifts bits.
const POWERS = Array.from({ length: MOST_BITS }, (_, m) => 2 ** -(m + 1)).flatMap((size) => [size, -size]);
const POWERS_IN_WORDS = `+ or - one of 1/2, 1/4, 1/8 to 1/${2 ** MOST_BITS}`;

export const GAMMAS = [-1, ...POWERS];
export const GAMMAS_IN_WORDS = `-1, or ${POWERS_IN_WORDS}`;

/**
 * Files without gamma come from when there was one default, 0.25. The default of runs may change; a saved network must
 * not.
 */
export const GAMMA_FIELD = { setting: "gamma", before: 0.25 } as const;

/** The settings of gamma, for the couplings that use it. */
export const gammaRows = (couplings: readonly { name: string; gamma?: GammaUse }[]) =>
  ({
    gamma: {
      kind: "number",
      default: -1 / 256,
      otherwise: couplings.flatMap(({ gamma }) => gamma?.otherwise ?? []),
      oneOf: GAMMAS,
      expected: GAMMAS_IN_WORDS,
      group,
      about:
        "share of the momentum that each block keeps; the nearer to 0, the nearer is the pretrained network and the more bits are stored per " +
        "element and block: +-1/2 1, +-1/4 2, +-1/8 and +-1/16 4, +-1/32 to +-1/256 8; -1 stores none, but starts far from a pretrained " +
        `network. Other defaults: ${aboutUses(couplings)}; -1 with stream float32`,
    },
    gamma_final: {
      kind: "number",
      default: 0,
      oneOf: [0, ...POWERS],
      expected: `0, or ${POWERS_IN_WORDS}`,
      group,
      about:
        "late in training, gamma is halved repeatedly down to this, so that the export as the ordinary network loses less; 0: gamma stays",
    },
    gamma_final_ratio: {
      kind: "number",
      default: 0.2,
      above: 0,
      max: 1,
      group,
      about: "share of the steps, at the end, in which gamma goes down to gamma_final",
    },
  }) as const satisfies SettingRows;

const aboutUses = (couplings: readonly { name: string; gamma?: GammaUse }[]): string =>
  couplings
    .filter(({ gamma }) => gamma?.about !== undefined)
    .map(({ name, gamma }) => `${name} ${gamma?.about}`)
    .join("; ");

/** Why a hidden size is not possible: stored bits are packed eight elements to a whole number of bytes. */
export function packingProblem({ gamma, gamma_final, stream }: SharedSettings, hiddenSize: number): string | false {
  const bits = Math.max(keptBits(gamma), keptBits(gamma_final || gamma));
  return (
    bits > 0 &&
    stream !== "float32" &&
    hiddenSize % 8 !== 0 &&
    `gamma: ${gamma} stores bits, which need a hidden_size that is a multiple of 8, not ${hiddenSize}. Use gamma -1 or another coupling.`
  );
}
