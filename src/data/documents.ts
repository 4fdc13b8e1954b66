// Rows into documents: token ids, and for each whether the loss is taken where it is the one predicted.
//
// A text whose parts differ in that is encoded part by part, not as a whole with the parts looked up afterwards. The
// boundaries are where inference has them: the prompt is encoded alone, up to the header "assistant\n" or its own end,
// and the model goes on from there token by token. Encoding the whole could merge the last letters of the prompt with
// the first of the answer into a token that generation never sees. At an end marker, which is a special token, both
// ways give the same ids. The documents belong to the caller.
import { UserError } from "../errors.js";
import { detectFormat, readSample, renameColumns, type RowFormat, type Sample } from "./conversation.js";
import { secondsFor } from "./limits.js";
import type { Row } from "./rows.js";
import { renderChat, renderWithMask, type Span } from "./template/template.js";
import { eachInTime } from "./time-limit.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

export interface Document {
  tokens: Int32Array;
  /** 1: the loss is taken where this token is the one predicted. The first is never predicted: 0. */
  trained: Uint8Array;
  /** The row it comes from. */
  place: string;
}

export interface DocumentSettings {
  format: RowFormat | "auto";
  /** The file's column by our name, as {prompt: "question"}. */
  columns: Record<string, string>;
  /** In conversations, only the assistant's turns are trained. */
  assistant_only_loss: boolean;
  /** Of prompt and completion, only the completion is trained. */
  completion_only_loss: boolean;
  max_length: number;
}

export interface DataReport {
  format: RowFormat;
  rows: number;
  /** Of the documents that are kept, as are trainedTokens and trainedShare. */
  tokens: number;
  trainedTokens: number;
  /** trainedTokens / tokens. */
  trainedShare: number;
  /** Conversations and completions cut at max_length. */
  truncated: number;
  /** Texts longer than max_length, which became several documents. */
  split: number;
  /** Documents left out: no token of them is trained, or they are shorter than two. */
  dropped: number;
}

/** Tokens of a document that follow one another and are trained alike. */
interface Part {
  ids: ArrayLike<number>;
  trained: boolean;
}

const READING = { what: "reading the row", remedy: "The row is far too large. Shorten or split it." };

const LIMITS = {
  secondsFor: ({ value }: Row): number => secondsFor(value, Array.isArray(value.messages) ? value.messages.length : 0),
  place: ({ place }: Row): string => `${place}: `,
};

/** Errors: UserError for rows that cannot be read as the format says, and when no token of all rows is trained. */
export function makeDocuments(
  rows: Row[],
  tokenizer: Tokenizer,
  settings: DocumentSettings,
): { documents: Document[]; report: DataReport } {
  const renamed = renameColumns(rows, settings.columns);
  const format = detectFormat(renamed, settings.format);
  const report: DataReport = {
    format,
    rows: rows.length,
    tokens: 0,
    trainedTokens: 0,
    trainedShare: 0,
    truncated: 0,
    split: 0,
    dropped: 0,
  };
  const documents: Document[] = [];
  const made = eachInTime(renamed, READING, LIMITS, (row) =>
    join(samplesParts(readSample(row, format), tokenizer, settings, row.place), row.place),
  );
  for (const whole of made) {
    const tooLong = whole.tokens.length > settings.max_length;
    if (tooLong) report[format === "text" ? "split" : "truncated"]++;
    const pieces = !tooLong
      ? [whole]
      : format === "text"
        ? split(whole, settings.max_length)
        : [slice(whole, 0, settings.max_length)];
    for (const document of pieces) {
      const trained = count(document.trained);
      if (trained === 0) {
        report.dropped++;
        continue;
      }
      documents.push(document);
      report.tokens += document.tokens.length;
      report.trainedTokens += trained;
    }
  }
  if (report.trainedTokens === 0) nothingTrained(report, rows[0].place, settings);
  report.trainedShare = report.trainedTokens / report.tokens;
  return { documents, report };
}

function samplesParts(sample: Sample, tokenizer: Tokenizer, settings: DocumentSettings, place: string): Part[] {
  const bos: Part = { ids: tokenizer.addBos && tokenizer.bosId !== undefined ? [tokenizer.bosId] : [], trained: false };
  const eos: Part = { ids: tokenizer.eosId === undefined ? [] : [tokenizer.eosId], trained: true };
  switch (sample.kind) {
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
  settings: DocumentSettings,
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

function slice({ tokens, trained, place }: Document, start: number, end: number): Document {
  const piece = { tokens: tokens.slice(start, end), trained: trained.slice(start, end), place };
  piece.trained[0] = 0;
  return piece;
}

/** Consecutive pieces of at most `longest` tokens. The last but one gives up a token, lest the last have only one. */
function split(document: Document, longest: number): Document[] {
  const pieces: Document[] = [];
  const { length } = document.tokens;
  for (let start = 0; start < length; ) {
    const left = length - start;
    const size = left === longest + 1 && longest > 2 ? longest - 1 : Math.min(left, longest);
    pieces.push(slice(document, start, start + size));
    start += size;
  }
  return pieces;
}

function count(flags: Uint8Array): number {
  let sum = 0;
  for (const flag of flags) sum += flag;
  return sum;
}

function nothingTrained({ format, rows, truncated }: DataReport, place: string, settings: DocumentSettings): never {
  const remedy =
    truncated > 0
      ? `${truncated} of them were cut at max_length ${settings.max_length}; set a larger max_length.`
      : format === "messages" && settings.assistant_only_loss
        ? "They have no turn of the assistant that the chat template shows; set assistant_only_loss: false to " +
          "train on all tokens."
        : "They are shorter than two tokens; check that the columns named are those with the text.";
  throw new UserError(
    `${place}: no token of the ${rows} rows is trained (format ${format}, expected at least one). ${remedy}`,
  );
}
