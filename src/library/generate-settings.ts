// The settings of `generate`, for the command and for programs: which model continues what, and how tokens are chosen.
import type { Given, SettingRows, SettingsInput, SettingsOf, SettingsTable } from "../settings/table.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";

const MODEL = "Model and prompt";
const SAMPLING = "Choice of tokens";
const MACHINE = "Machine";

/** Where a network is computed that is not trained; for every command that has one. */
export const MACHINE_ROWS = {
  device: { ...TRAIN_ROWS.device, group: MACHINE },
  threads: { ...TRAIN_ROWS.threads, group: MACHINE },
  compute_dtype: {
    ...TRAIN_ROWS.compute_dtype,
    group: MACHINE,
    about: "data type of weights and matrix products; auto: the one that the device multiplies fastest",
  },
} as const satisfies SettingRows;

export const GENERATE_ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: MODEL,
    about: "folder of a Hugging Face checkpoint or of a run, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  prompt: { kind: "string", required: true, group: MODEL, about: "the text to continue" },
  chat: {
    kind: "boolean",
    default: false,
    group: MODEL,
    about: "treat the prompt as a user's message, formatted with the chat template",
  },
  as: {
    kind: "choice",
    choices: ["auto", "trained", "ordinary"],
    default: "auto",
    group: MODEL,
    about:
      "which network to run; trained: as it was trained; ordinary: the ordinary network; auto: as trained, if the folder has revmoe.json",
  },
  max_new_tokens: {
    kind: "integer",
    default: 128,
    min: 1,
    group: SAMPLING,
    about: "highest number of new tokens; the default is lower if the model has fewer positions left",
  },
  temperature: {
    kind: "number",
    default: 0.8,
    min: 0,
    group: SAMPLING,
    about: "divides the logits; 0: always take the most likely token",
  },
  top_p: {
    kind: "number",
    default: 0.95,
    above: 0,
    max: 1,
    group: SAMPLING,
    about: "draw only from the fewest tokens that together have this share of the probability; 1: from all",
  },
  top_k: {
    kind: "integer",
    default: 0,
    min: 0,
    group: SAMPLING,
    about: "draw only from this many most likely tokens; 0: from all",
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: SAMPLING,
    about: "seed for drawing tokens; the same seed gives the same text",
  },
  ...MACHINE_ROWS,
} as const satisfies SettingRows;

export type GenerateSettings = SettingsOf<typeof GENERATE_ROWS>;

/** How a model is opened. */
export type OpenSettings = Pick<SettingsInput<typeof GENERATE_ROWS>, "as" | "device" | "threads" | "compute_dtype">;

/** How a text is continued. */
export type GenerateOptions = Omit<SettingsInput<typeof GENERATE_ROWS>, keyof OpenSettings | "model" | "prompt">;

export const GENERATE_TABLE: SettingsTable<typeof GENERATE_ROWS> = {
  rows: GENERATE_ROWS,
  elsewhere: { do_sample: "Use temperature: 0 always takes the likeliest token.", max_length: "Use max_new_tokens." },
  check: checkSampling,
};

/** Refuses settings of random draws if the likeliest token is always taken. */
function checkSampling({ temperature }: GenerateSettings, at: Given): string | undefined {
  const idle = temperature === 0 ? ["top_p", "top_k", "seed"].find((name) => at.has(name)) : undefined;
  if (idle === undefined) return undefined;
  return (
    `${at.subject(idle)} has no effect: ${at.mention("temperature")} always takes the likeliest token. ` +
    `Remove ${idle}, or set temperature above 0.`
  );
}
