// The settings of `train` for samples of text while it trains, and which of them would have no effect.
import type { SettingRows } from "../../settings/table.js";
import type { Problem } from "./rows.js";

const GROUP = "Samples of text";

export const SAMPLE_ROWS = {
  sample_prompts: {
    kind: "string",
    list: true,
    wholeWords: true,
    default: [],
    metavar: "TEXT...",
    group: GROUP,
    about:
      "texts that the network goes on from while it trains, always with the likeliest token; the name of a file stands for its lines. Training keeps its bits",
  },
  sample_steps: {
    kind: "integer",
    default: 0,
    min: 0,
    group: GROUP,
    about: "steps between samples; 0: only at start and end",
  },
  sample_tokens: {
    kind: "integer",
    default: 64,
    min: 1,
    group: GROUP,
    about:
      "tokens of a sample at most. Each passes all blocks by itself: with parameters in host memory or on disk it reads them all",
  },
} as const satisfies SettingRows;

export const SAMPLE_PROBLEMS: readonly Problem[] = (["sample_steps", "sample_tokens"] as const).map(
  (name): Problem =>
    ({ sample_prompts: prompts }, at) =>
      prompts.length === 0 &&
      at.has(name) &&
      `${at.subject(name)} has no effect: there is nothing to go on from. Remove ${name}, or set sample_prompts.`,
);
