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
      "texts that the model continues during training, always with the most likely token; a file's name stands for its lines. The training keeps the same bits",
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
      "highest number of tokens in a sample; each passes through all blocks, so with parameters in host memory or on disk it reads the whole model",
  },
} as const satisfies SettingRows;
