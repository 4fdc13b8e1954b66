// The span of a turn if its template does not show it by itself. One way: between renderings of longer and longer
// prefixes of the conversation, if each begins the next. Another: a search for the turn's words between the header that
// the generation prompt shows and the end marker that a probe shows. Each takes at least one rendering of all before
// the turn.
import type { Message } from "../conversations/sample.js";
import type { Template } from "@huggingface/jinja";
import { mayTakeLong } from "./bounds.js";
import { type Chat, PROBE, tryRun } from "./chat.js";
import type { Span } from "./turn-segments.js";

/** The span of messages[i]; a search begins at `searched`, if that is given. Undefined if the span is not certain. */
export function spanByPrefix(
  chat: Chat,
  template: Template,
  text: string,
  i: number,
  searched: number | undefined,
): Span | undefined {
  const before = promptOf(chat, template, text, i);
  const span = prefixSpan(chat, template, text, i, before);
  return span ?? (searched === undefined ? undefined : searchedSpan(chat, template, text, i, before, searched));
}

/** The text before a turn, with the generation prompt. */
function promptOf(chat: Chat, template: Template, text: string, i: number): string | undefined {
  const prompt = tryRun(template, chat, i, true);
  if (i > 0) return prompt;
  // Some templates write the generation prompt in their loop over messages, or refuse to render none; a conversation
  // that begins with the assistant has none before it. Then what a template adds after a question is the header.
  const question: Message[] = [{ role: "user", content: PROBE }];
  const bare = tryRun(template, chat, 0, false, question);
  const asked = tryRun(template, chat, 0, true, question);
  const header = bare !== undefined && asked?.startsWith(bare) ? asked.slice(bare.length) : "";
  if (prompt !== undefined) return prompt.endsWith(header) ? prompt : prompt + header;
  const found = header.trim() === "" ? -1 : text.indexOf(header);
  return found === -1 ? undefined : text.slice(0, found + header.length);
}

/** The span between the prompt for a turn and the text up to and including the turn, if both begin the whole text. */
function prefixSpan(
  chat: Chat,
  template: Template,
  text: string,
  i: number,
  before: string | undefined,
): Span | undefined {
  const after = i === chat.messages.length - 1 ? text : tryRun(template, chat, i + 1, false);
  if (before === undefined || after === undefined || !after.startsWith(before) || !text.startsWith(after))
    return undefined;
  const turn = after.slice(before.length);
  const content = (chat.messages[i].content ?? "").trim();
  const found = content === "" || mayTakeLong(content, turn) ? -1 : turn.lastIndexOf(content);
  const tail = found === -1 ? turn : turn.slice(found + content.length);
  // If there is only white space, it is the end marker.
  const ending = tail.trim() === "" ? turn : turn.trimEnd();
  return [before.length, before.length + ending.length];
}

/**
 * The span of a turn whose rendering depends on later turns: some templates show only the last turn's thoughts. It
 * begins after the header, and the end marker must follow the content at once.
 */
function searchedSpan(
  chat: Chat,
  template: Template,
  text: string,
  i: number,
  before: string | undefined,
  cursor: number,
): Span | undefined {
  const probed = tryRun(template, chat, i, false, [{ role: "assistant", content: PROBE }]);
  if (before === undefined || !probed?.includes(PROBE)) return undefined;
  const tail = probed.slice(probed.lastIndexOf(PROBE) + PROBE.length);
  const marker = tail.trim() === "" ? tail : tail.trimEnd();
  const start = text.startsWith(before) ? before.length : behindHeader(chat, template, text, before, i, cursor);
  if (start === undefined || marker === "") return undefined;
  const { content, tool_calls: calls } = chat.messages[i];
  const given = content ?? "";
  const behindThoughts = given.split("</think>").at(-1) ?? "";
  for (const shown of new Set([given, given.trim(), behindThoughts.trim()])) {
    const found = calls === undefined ? text.indexOf(shown + marker, start) : text.indexOf(shown, start);
    if (found === -1 || text.slice(start, found).includes(marker)) continue;
    const end = text.indexOf(marker, found + shown.length);
    if (end !== -1) return [start, end + marker.length];
  }
  return undefined;
}

/** The end of the next assistant header from `cursor` on; the header is what the generation prompt adds. */
function behindHeader(
  chat: Chat,
  template: Template,
  text: string,
  before: string,
  i: number,
  cursor: number,
): number | undefined {
  const bare = tryRun(template, chat, i, false);
  if (bare === undefined || !before.startsWith(bare)) return undefined;
  const header = before.slice(bare.length);
  const found = header.trim() === "" ? -1 : text.indexOf(header, cursor);
  return found === -1 ? undefined : found + header.length;
}
