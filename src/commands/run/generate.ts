// `revmoe generate`: goes on from a prompt, or answers it, and prints the text as it comes. With --json the text comes
// at once, with counts and the time of a token.
import { UserError } from "../errors.js";
import { visibleText } from "../format.js";
import { type Output, writeRaw } from "../metrics/output.js";
import { TRAIN_ROWS } from "../train/settings/rows.js";
import type { Given, SettingRows, SettingsOf } from "../settings/table.js";
import type { Command } from "./command.js";
import { openSource } from "../checkpoint/source.js";
import { loadTokenizer } from "../data/tokenizer/tokenizer.js";
import { checkPrompt, generateTokens } from "../generate/generate.js";
import { findStopIds } from "../generate/stop-ids.js";
import { chooseNetwork, openNetwork } from "../generate/open-network.js";
import { resolveModel } from "../hub/resolve.js";
import { architectureOf } from "../model/architecture.js";
import { freeModel } from "../model/model.js";
import { setThreads, useDevice } from "../torch/device.js";
import { encodePrompt } from "../generate/prompt.js";
import { streamText } from "../generate/stream-text.js";

const MODEL = "Model and prompt";
const SAMPLING = "Choice of tokens";
const MACHINE = "Machine";

const ROWS = {
  model: {
    kind: "string",
    required: true,
    metavar: "FOLDER",
    group: MODEL,
    about:
      "folder of a Hugging Face checkpoint or of a run's result, a .gguf file, or a name on the hub: org/name[@revision]",
  },
  prompt: { kind: "string", required: true, group: MODEL, about: "the text to go on from" },
  chat: {
    kind: "boolean",
    default: false,
    group: MODEL,
    about: "take the prompt as a user's message, in the form of the chat template",
  },
  as: {
    kind: "choice",
    choices: ["auto", "trained", "ordinary"],
    default: "auto",
    group: MODEL,
    about: "the network as it was trained, or the ordinary one; auto: as trained where the folder has revmoe.json",
  },
  max_new_tokens: { kind: "integer", default: 128, min: 1, group: SAMPLING, about: "tokens at most" },
  temperature: {
    kind: "number",
    default: 0.8,
    min: 0,
    group: SAMPLING,
    about: "divides the logits; 0: always the likeliest token",
  },
  top_p: {
    kind: "number",
    default: 0.95,
    above: 0,
    max: 1,
    group: SAMPLING,
    about: "draw from the fewest tokens that have this much of the probability; 1: from all",
  },
  top_k: {
    kind: "integer",
    default: 0,
    min: 0,
    group: SAMPLING,
    about: "draw from this many likeliest tokens; 0: from all",
  },
  seed: {
    kind: "integer",
    default: 42,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    group: SAMPLING,
    about: "of the draws; the same gives the same text",
  },
  device: { ...TRAIN_ROWS.device, group: MACHINE },
  threads: { ...TRAIN_ROWS.threads, group: MACHINE },
  compute_dtype: {
    ...TRAIN_ROWS.compute_dtype,
    group: MACHINE,
    about: "type of the weights and products; auto: what the device multiplies fastest",
  },
} as const satisfies SettingRows;

type GenerateSettings = SettingsOf<typeof ROWS>;

export const command: Command<typeof ROWS> = {
  name: "generate",
  summary: "Print what a model says to a prompt",
  usage: "revmoe generate --model FOLDER --prompt TEXT [--setting value ...]",
  example: 'revmoe generate --model runs/first/final --prompt "Once upon a time" --max-new-tokens 64',
  settings: {
    rows: ROWS,
    elsewhere: { do_sample: "Use temperature: 0 always takes the likeliest token.", max_length: "Use max_new_tokens." },
    check: checkSampling,
  },
  json: true,
  run: async ({ settings, json, out, err }) => {
    const { as, device, compute_dtype: computeDtype, threads, chat } = settings;
    useDevice(device);
    setThreads(threads);
    const folder = await resolveModel(settings.model, { out: err });
    // Whatever can be wrong is found out before the weights are read, which may take minutes.
    const source = openSource(folder);
    const description = chooseNetwork(folder, as);
    const tokenizer = loadTokenizer(source);
    const promptIds = await promptIdsOf(tokenizer, settings);
    const { config, configPath } = source;
    checkPrompt(architectureOf(config, configPath).readConfig(config, configPath), promptIds, settings.max_new_tokens);
    const stopIds = findStopIds(source, tokenizer, { chat });
    const network = openNetwork(source, { as, device, computeDtype });
    try {
      const made = await say({ network, tokenizer, promptIds, stopIds, settings, out: json ? null : out });
      const record = { prompt: settings.prompt, ...made, network: description };
      if (json) out.write(`${JSON.stringify(record, null, 2)}\n`);
      else writeRaw(out, "\n");
      return 0;
    } finally {
      freeModel(network.model);
    }
  },
};

/** Draws have settings that the likeliest token does not. */
function checkSampling({ temperature }: GenerateSettings, at: Given): string | undefined {
  const idle = temperature === 0 ? ["top_p", "top_k", "seed"].find((name) => at.has(name)) : undefined;
  if (idle === undefined) return undefined;
  return (
    `${at.subject(idle)} has no effect: ${at.mention("temperature")} always takes the likeliest token. ` +
    `Remove ${idle}, or set temperature above 0.`
  );
}

type Tokenizer = import("../data/tokenizer/tokenizer.js").Tokenizer;

/** The prompt's ids as training has them. */
async function promptIdsOf(tokenizer: Tokenizer, { model, prompt, chat }: GenerateSettings): Promise<number[]> {
  if (chat && tokenizer.chatTemplate === undefined) {
    throw new UserError(
      `--chat: ${model} has no chat template (expected chat_template in tokenizer_config.json, or the file ` +
        "chat_template.jinja). Leave --chat out, or add the model's template.",
    );
  }
  return encodePrompt(tokenizer, prompt, { chat }).ids;
}

interface Saying {
  network: import("../network/network.js").Network;
  tokenizer: Tokenizer;
  promptIds: number[];
  stopIds: Set<number>;
  settings: GenerateSettings;
  /** Where the text goes as it comes; null to collect it alone. */
  out: Output | null;
}

interface Said {
  text: string;
  /** Counts of tokens. */
  tokens: number;
  promptTokens: number;
  /** Mean time of the tokens after the first, which waits for the prompt; null when there are none. */
  msPerToken: number | null;
}

async function say({ network, tokenizer, promptIds, stopIds, settings, out }: Saying): Promise<Said> {
  const { max_new_tokens: maxNewTokens, temperature, top_k: topK, top_p: topP, seed } = settings;
  const times: number[] = [];
  function* timed(tokens: Iterable<number>): Generator<number, void, undefined> {
    for (const token of tokens) {
      times.push(performance.now());
      yield token;
    }
  }
  const tokens = generateTokens(network, promptIds, { maxNewTokens, temperature, topK, topP, seed, stopIds });
  let text = "";
  for (const piece of streamText(timed(tokens), tokenizer, promptIds)) {
    text += piece;
    // A file or a program gets every byte; a terminal would obey some of them.
    if (out) writeRaw(out, out.isTTY ? visibleText(piece) : piece);
    // Lets what was written reach a pipe.
    await new Promise(setImmediate);
  }
  const count = times.length;
  const msPerToken = count > 1 ? (times[count - 1] - times[0]) / (count - 1) : null;
  return { text, tokens: count, promptTokens: promptIds.length, msPerToken };
}
