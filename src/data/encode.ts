// One sample into token ids, and for each whether the loss is taken where it is the one predicted.
//
// A text whose parts differ in that is encoded part by part, not as a whole with the parts looked up afterwards. The
// boundaries are where inference has them: the prompt is encoded alone, up to the header "assistant\n" or its own end,
// and the model goes on from there token by token. Encoding the whole could merge the last letters of the prompt with
// the first of the answer into a token that generation never sees. At an end marker, which is a special token, both
// ways give the same ids.
import { UserError } from "../errors.js";
import type { Sample } from "./conversation.js";
import type { Document } from "./documents.js";
import { renderChat, renderWithMask, type Span } from "./template/template.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

/** Which parts of a sample are trained. */
export interface TrainedParts {
  /** In conversations, only the assistant's turns are trained. */
  assistant_only_loss: boolean;
  /** Of prompt and completion, only the completion is trained. */
  completion_only_loss: boolean;
}

/** Tokens of a document that follow one another and are trained alike. */
interface Part {
  ids: ArrayLike<number>;
  trained: boolean;
}

/** The caller owns the document. Errors: UserError that names `place`. */
export const encodeSample = (sample: Sample, tokenizer: Tokenizer, settings: TrainedParts, place: string): Document =>
  join(samplesParts(sample, tokenizer, settings, place), place);

function samplesParts(sample: Sample, tokenizer: Tokenizer, settings: TrainedParts, place: string): Part[] {
  const bos: Part = { ids: tokenizer.addBos && tokenizer.bosId !== undefined ? [tokenizer.bosId] : [], trained: false };
  const eos: Part = { ids: tokenizer.eosId === undefined ? [] : [tokenizer.eosId], trained: true };
  switch (sample.kind) {
    case "tokens":
      return tokenParts(sample);
    case "text":
      return [bos, { ids: tokenizer.encode(sample.text), trained: true }, eos];
    case "completion": {
      const { prompt, completion } = sample;
      const promptIds = { ids: tokenizer.encode(prompt), trained: !settings.completion_only_loss };
      return [bos, promptIds, { ids: tokenizer.encode(completion, prompt), trained: true }, eos];
    }
    case "messages": {
      const { messages, tools } = sample;
      if (settings.assistant_only_loss) {
        const { text, trained } = renderWithMask(tokenizer, messages, { tools, place });
        return encodeSpans(tokenizer, text, trained);
      }
      const text = renderChat(tokenizer, messages, { addGenerationPrompt: false, tools, place });
      return encodeSpans(tokenizer, text, [[0, text.length]]);
    }
    case "chat_completion":
      return chatCompletion(sample, tokenizer, settings, place);
  }
}

/** Prompt and completion as messages: of the completion, too, only the assistant's turns are what a model writes. */
function chatCompletion(
  sample: Sample & { kind: "chat_completion" },
  tokenizer: Tokenizer,
  settings: TrainedParts,
  place: string,
): Part[] {
  const { prompt, completion, tools } = sample;
  const messages = [...prompt, ...completion];
  if (!settings.completion_only_loss) {
    const text = renderChat(tokenizer, messages, { addGenerationPrompt: false, tools, place });
    return encodeSpans(tokenizer, text, [[0, text.length]]);
  }
  const { text, trained } = renderWithMask(tokenizer, messages, { tools, place });
  const asked = renderChat(tokenizer, prompt, { addGenerationPrompt: true, tools, place });
  if (!text.startsWith(asked)) {
    throw new UserError(
      `${place}: the chat template renders the prompt otherwise when the completion follows, so where the ` +
        "completion begins is not known. Set completion_only_loss: false, or give the row as messages.",
    );
  }
  return encodeSpans(
    tokenizer,
    text,
    // Some templates count the end of the header to the turn; it stands in the prompt.
    trained.filter(([, end]) => end > asked.length).map(([start, end]) => [Math.max(start, asked.length), end]),
  );
}

/** Tokens that were made elsewhere, as they are. */
function tokenParts({ ids, trained }: Sample & { kind: "tokens" }): Part[] {
  const parts: Part[] = [];
  for (let start = 0, end = 0; start < ids.length; start = end) {
    while (end < ids.length && trained[end] === trained[start]) end++;
    parts.push({ ids: ids.subarray(start, end), trained: trained[start] === 1 });
  }
  return parts;
}

function encodeSpans(tokenizer: Tokenizer, text: string, trained: Span[]): Part[] {
  const parts: Part[] = [];
  let cursor = 0;
  const part = (end: number, isTrained: boolean): void => {
    if (end > cursor)
      parts.push({ ids: tokenizer.encode(text.slice(cursor, end), text.slice(0, cursor)), trained: isTrained });
    cursor = end;
  };
  for (const [start, end] of trained) {
    part(start, false);
    part(end, true);
  }
  part(text.length, false);
  return parts;
}

function join(parts: Part[], place: string): Document {
  const length = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const tokens = new Int32Array(length);
  const trained = new Uint8Array(length);
  let start = 0;
  for (const { ids, trained: isTrained } of parts) {
    tokens.set(ids, start);
    trained.fill(isTrained ? 1 : 0, start, start + ids.length);
    start += ids.length;
  }
  trained[0] = 0;
  return { tokens, trained, place };
}
