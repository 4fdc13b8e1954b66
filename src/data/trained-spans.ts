// Which characters of a conversation are trained: turns of the assistant, chosen by the setting and by what the row
// says of each message. A row is refused if a message's characters are not certain.
import { UserError } from "../errors.js";
import type { Message } from "./conversations/sample.js";
import type { TrainOn } from "./trained-parts.js";
import { type ChatOptions, renderChat, renderWithMask, renderWithTurns, type Span } from "./template/template.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";

interface Choice {
  wanted: TrainOn;
  /** How many of the messages belong to the prompt; 0 in rows without one. */
  prompted: number;
  /** For each message, whether it is trained if such turns are; if missing, all are. */
  trains: boolean[] | undefined;
}

/** The conversation as text, and its trained spans in order. Errors: UserError that names the row. */
export function trainedSpans(
  tokenizer: Tokenizer,
  messages: Message[],
  options: ChatOptions,
  { wanted, prompted, trains }: Choice,
): { text: string; trained: Span[] } {
  if (wanted === "all") return allBut(tokenizer, messages, options, trains ?? []);
  const { text, trained, turns } = renderWithMask(tokenizer, messages, options);
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  const first = wanted === "last" ? last : wanted === "completion" ? prompted : 0;
  const begin =
    wanted === "completion" && prompted > 0 ? promptEnd(tokenizer, messages.slice(0, prompted), options, text) : 0;
  const isNeeded = trains?.includes(false) || (first > 0 && begin === undefined) || wanted === "last";
  if (isNeeded && turns.includes(-1))
    unknown(options, "the chat template's {% generation %} tags do not show whose turns they are");
  const isChosen = (end: number, turn: number): boolean =>
    trains?.[turn] !== false && (begin !== undefined && wanted === "completion" ? end > begin : turn >= first);
  const chosen = trained.filter(([, end], i) => isChosen(end, turns[i]));
  // Some templates count the end of the header as part of the turn; but it is in the prompt.
  return { text, trained: chosen.map(([start, end]) => [Math.max(start, begin ?? 0), end]) };
}

/** The end of the prompt in the text; undefined if the template renders the prompt differently when more follows. */
function promptEnd(tokenizer: Tokenizer, prompt: Message[], options: ChatOptions, text: string): number | undefined {
  const asked = renderChat(tokenizer, prompt, { addGenerationPrompt: true, ...options });
  return text.startsWith(asked) ? asked.length : undefined;
}

/** The whole text except messages that the row says are not trained; for the assistant's, the header stays trained. */
function allBut(
  tokenizer: Tokenizer,
  messages: Message[],
  options: ChatOptions,
  trains: boolean[],
): { text: string; trained: Span[] } {
  const isLeftOut = (i: number): boolean => trains[i] === false;
  const { text, turns: parts } = renderWithTurns(tokenizer, messages, options);
  const answers = messages.some(({ role }, i) => role === "assistant" && isLeftOut(i))
    ? renderWithMask(tokenizer, messages, options)
    : undefined;
  const trained: Span[] = [];
  let cursor = 0;
  for (const [i, { role }] of messages.entries()) {
    if (!isLeftOut(i)) continue;
    const at = answers?.turns.indexOf(i) ?? -1;
    const part = role === "assistant" && at >= 0 ? answers?.trained[at] : parts[i];
    if (part === undefined || part[0] < cursor)
      unknown(options, `messages[${i}], which is not to be trained, is not found in the text`);
    if (part[0] > cursor) trained.push([cursor, part[0]]);
    cursor = part[1];
  }
  if (cursor < text.length) trained.push([cursor, text.length]);
  return { text, trained };
}

function unknown({ place }: ChatOptions, what: string): never {
  throw new UserError(
    `${place ?? "chat template"}: ${what}, so what to train is not known for certain. ` +
      'Train "assistant" without a choice among turns, or give the tokenizer the template as its model was released with it.',
  );
}
