// `revmoe generate`: goes on from a prompt, or answers it, and prints the text as it comes. With --json the text comes
// at once, with counts and the time of a token.
import { UserError } from "../../errors.js";
import { visibleText } from "../../format.js";
import { type Output, writeRaw } from "../../metrics/output.js";
import type { CommandInput } from "../command.js";
import { openSource } from "../../checkpoint/source.js";
import { loadTokenizer, type Tokenizer } from "../../data/tokenizer/tokenizer.js";
import { checkPrompt, generateTokens, roomBehind } from "../../generate/generate.js";
import { findStopIds } from "../../generate/stop-ids.js";
import { chooseNetwork, openNetwork } from "../../generate/open-network.js";
import { readArchitecture } from "../../families/registry.js";
import type { Architecture } from "../../model/architecture.js";
import type { Network } from "../../network/network.js";
import { freeModel } from "../../model/model.js";
import { setThreads, useDevice } from "../../torch/device.js";
import { encodePrompt } from "../../generate/prompt.js";
import { streamText } from "../../generate/stream-text.js";
import { namedModel } from "../../hub/named-model.js";
import type { ROWS, GenerateSettings } from "../generate.js";

export async function run({ settings: asked, given, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { as, device, compute_dtype: computeDtype, threads, chat } = asked;
  useDevice(device);
  setThreads(threads);
  const { folder } = await namedModel(asked.model, "use", { out: err });
  // Whatever can be wrong is found out before the weights are read, which may take minutes.
  const source = openSource(folder);
  const description = chooseNetwork(folder, as);
  const tokenizer = loadTokenizer(source);
  const promptIds = await promptIdsOf(tokenizer, asked);
  const architecture = readArchitecture(source.config, source.configPath);
  const settings = given.has("max_new_tokens") ? asked : withinPositions(asked, architecture, promptIds.length, err);
  checkPrompt(architecture, promptIds, settings.max_new_tokens);
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
}

/** Fewer new tokens than the default where the model has no positions for it. */
function withinPositions(
  settings: GenerateSettings,
  architecture: Architecture,
  promptTokens: number,
  err: Output,
): GenerateSettings {
  const room = roomBehind(architecture, promptTokens);
  if (room <= 0 || room >= settings.max_new_tokens) return settings;
  err.write(
    `note: at most ${room} new tokens, for the model has ${architecture.maxPositions} positions and the prompt takes ${promptTokens}\n`,
  );
  return { ...settings, max_new_tokens: room };
}

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
  network: Network;
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
