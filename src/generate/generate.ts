// Generates token after token: the prompt is read once, then each token alone, with the keys and values of those
// before. Everything that is opened is closed when the last token is out, the consumer stops early, or something fails.
import { UserError } from "../errors.js";
import type { Architecture } from "../model/architecture.js";
import type { Network } from "../network/network.js";
import { Decoder } from "./decoder.js";
import { pickToken } from "./sample.js";

export interface GenerateOptions {
  maxNewTokens: number;
  /** 0 always takes the likeliest token; it is the default. */
  temperature?: number;
  topK?: number;
  topP?: number;
  seed?: number;
  /** Tokens that end the text; they are not part of it. */
  stopIds?: Iterable<number>;
  /** See `DecoderOptions`. */
  holdsBlocks?: boolean;
  /** Maps a token that was picked to the one that is used, so that ranks agree; by default the same token. */
  agreed?: (token: number) => number;
}

/**
 * The tokens that follow `promptIds`. A consumer that stops early must call `return`, as `break` in a for-of loop does.
 * Errors: UserError, at once, for a prompt that is empty, has ids outside of the vocabulary, or is too long.
 */
export function generateTokens(
  network: Network,
  promptIds: ArrayLike<number>,
  options: GenerateOptions,
): Generator<number, void, undefined> {
  checkPrompt(network.model.architecture, promptIds, options.maxNewTokens);
  return follow(network, Int32Array.from(promptIds), options);
}

function* follow(network: Network, prompt_T: Int32Array, options: GenerateOptions): Generator<number, void, undefined> {
  const {
    maxNewTokens,
    temperature = 0,
    topK = 0,
    topP = 1,
    seed = 42,
    holdsBlocks,
    agreed = (token) => token,
  } = options;
  const stopIds = new Set(options.stopIds);
  const decoder = new Decoder(network, { holdsBlocks });
  try {
    let unread_T = prompt_T;
    for (let made = 0; made < maxNewTokens; made++) {
      const how = { temperature, topK, topP, seed };
      const token = agreed(pickToken(decoder.advance(unread_T), how, prompt_T.length + made));
      if (stopIds.has(token)) return;
      yield token;
      unread_T = Int32Array.of(token);
    }
  } finally {
    decoder.close();
  }
}

/** Number of new tokens for which a model has positions; negative if the prompt itself is too long. */
export const roomBehind = ({ maxPositions }: Architecture, promptTokens: number): number =>
  // The last token is never read, so it needs no position.
  maxPositions + 1 - promptTokens;

/** Throws the errors of `generateTokens`, for use before weights are loaded. `place` names the prompt in them. */
export function checkPrompt(
  architecture: Architecture,
  promptIds: ArrayLike<number>,
  maxNewTokens: number,
  place = "prompt",
): void {
  const { vocabSize, maxPositions } = architecture;
  if (promptIds.length === 0) {
    throw new UserError(`${place}: it has no tokens (expected at least one). Give a text to go on from.`);
  }
  const foreign = Array.from(promptIds).find((id) => id >= vocabSize);
  if (foreign !== undefined) {
    throw new UserError(
      `${place}: token ${foreign} is outside the model's vocabulary of ${vocabSize}. ` +
        "The tokenizer.json does not belong to this model.",
    );
  }
  const room = roomBehind(architecture, promptIds.length);
  if (maxNewTokens <= room) return;
  const positions = `the model's positions (max_position_embeddings is ${maxPositions})`;
  throw new UserError(
    room > 0
      ? `max_new_tokens: ${maxNewTokens} behind a prompt of ${promptIds.length} go beyond ${positions}. Set max_new_tokens to at most ${room}.`
      : `${place}: its ${promptIds.length} tokens go beyond ${positions}. Shorten the prompt.`,
  );
}
