// One sample into token ids, and for each id whether the loss of predicting it counts.
//
// A text of trained and other parts is encoded part by part, not as a whole in which the parts are then searched. The
// boundaries are those of inference: the prompt is encoded alone, up to the header "assistant\n" or its own end, and
// the model goes on from there token by token. Encoding the whole could merge the last letters of the prompt with the
// first of the answer into a token that generation never sees. At an end marker, which is a special token, both ways
// give the same ids.
import type { Message, Sample } from "./conversations/sample.js";
import type { Document } from "./documents.js";
import { type ChatOptions, renderChat, type Span } from "./template/template.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { TrainedParts, TrainOn } from "./trained-parts.js";
import { trainedSpans } from "./trained-spans.js";

/** What a row may say of its own training and rendering. */
export interface RowChoice {
  /** For each of its messages, the prompt's first: whether it is trained if such turns are. If missing, all are. */
  trains?: boolean[];
  /** Variables for the chat template, beside those of the settings. */
  kwargs?: Record<string, unknown>;
}
export type WeighedSample = Sample & RowChoice;

/** Consecutive tokens of a document that are all trained or all not. */
interface Part {
  ids: ArrayLike<number>;
  trained: boolean;
}

/** Encodes a sample; the caller owns the document. Errors: UserError that names `place`. */
export const encodeSample = (
  sample: WeighedSample,
  tokenizer: Tokenizer,
  settings: TrainedParts,
  place: string,
): Document => join(samplesParts(sample, tokenizer, settings, place), place);

function samplesParts(sample: WeighedSample, tokenizer: Tokenizer, settings: TrainedParts, place: string): Part[] {
  switch (sample.kind) {
    case "tokens":
      return tokenParts(sample);
    case "text":
      return withEnds([{ ids: tokenizer.encode(sample.text), trained: true }], tokenizer);
    case "completion": {
      const { prompt, completion } = sample;
      const asked = { ids: tokenizer.encode(prompt), trained: trainOn(sample.kind, settings) === "all" };
      return withEnds([asked, { ids: tokenizer.encode(completion, prompt), trained: true }], tokenizer);
    }
    case "messages":
      return conversation(sample.messages, 0, sample, tokenizer, settings, place);
    case "chat_completion": {
      const { prompt, completion } = sample;
      return conversation([...prompt, ...completion], prompt.length, sample, tokenizer, settings, place);
    }
  }
}

/** Adds the tokens that begin and end a text, unless the text has them itself. The end is trained. */
function withEnds(parts: Part[], { bosId, eosId, addBos }: Tokenizer): Part[] {
  const first = parts.find(({ ids }) => ids.length > 0)?.ids[0];
  const last = Array.from(parts[parts.length - 1].ids).at(-1);
  const begins = addBos && bosId !== undefined && first !== bosId;
  const ends = eosId !== undefined && last !== eosId;
  return [
    ...(begins ? [{ ids: [bosId], trained: false }] : []),
    ...parts,
    ...(ends ? [{ ids: [eosId], trained: true }] : []),
  ];
}

function trainOn(kind: Sample["kind"], settings: TrainedParts): TrainOn {
  if (settings.train_on !== undefined) return settings.train_on;
  if (kind === "messages") return settings.assistant_only_loss ? "assistant" : "all";
  return settings.completion_only_loss ? "completion" : "all";
}

function conversation(
  messages: Message[],
  prompted: number,
  sample: WeighedSample & { tools: unknown[] | undefined },
  tokenizer: Tokenizer,
  settings: TrainedParts,
  place: string,
): Part[] {
  const kwargs = { ...settings.chat_template_kwargs, ...sample.kwargs };
  const options: ChatOptions = { tools: sample.tools, kwargs, place };
  const wanted = trainOn(sample.kind, settings);
  if (wanted === "all" && !sample.trains?.includes(false)) {
    const text = renderChat(tokenizer, messages, { addGenerationPrompt: false, ...options });
    return encodeSpans(tokenizer, text, [[0, text.length]]);
  }
  const { text, trained } = trainedSpans(tokenizer, messages, options, { wanted, prompted, trains: sample.trains });
  return encodeSpans(tokenizer, text, trained);
}

/** Tokens that were made elsewhere, unchanged. */
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
