// The settings of `train` for samples of text while it trains.
import type { SettingRows } from "../../settings/table.js";

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
