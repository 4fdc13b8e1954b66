// Watches a template while it renders: marks what a loop writes in one message's turn, and notes what it reads of other
// messages meanwhile. Needs a new one for each rendering.
import { isList, type Value } from "./python/values.js";

// Unicode noncharacters, which no text for exchange contains.
const BEGIN = "\uFDD4";
const END = "\uFDD5";
const MARKS = /\uFDD4(\d+);|\uFDD5/g;

/** What was written in a message's turn: text from `start` up to `end`. */
export interface Part {
  message: number;
  start: number;
  end: number;
}

export class Watch {
  /**
   * Messages during which something else than the role of another message was read; then the text may not be theirs
   * alone.
   */
  readonly mixed = new Set<number>();
  private readonly places = new Map<Value, number>();
  private turn: number | undefined;
  private count = 0;

  begin(messages: unknown): void {
    const list = messages as Value;
    if (isList(list)) for (const [i, message] of list.value.entries()) this.places.set(message, i);
  }

  /** A loop goes on to `item`; the result is for `leave`. A loop inside a message's turn belongs to that turn. */
  enter(item: Value): { message: number; outer: number | undefined } | undefined {
    const message = this.places.get(item);
    if (message === undefined) return undefined;
    const outer = this.turn;
    this.turn ??= message;
    return { message, outer };
  }

  /** What a loop wrote for an item; marked if the item is a message. */
  leave(turn: ReturnType<Watch["enter"]>, written: string): string {
    if (turn === undefined) return written;
    const { message, outer } = turn;
    if (outer !== undefined && outer !== message && written.replaceAll(MARKS, "") !== "") this.mixed.add(outer);
    this.turn = outer;
    this.count++;
    return `${BEGIN}${message};${written}${END}`;
  }

  /** To be called when a key of `object` is read. */
  reads(object: Value, key: string): void {
    if (this.turn === undefined || key === "role") return;
    const message = this.places.get(object);
    if (message !== undefined && message !== this.turn) this.mixed.add(this.turn);
  }

  /** A marked text without its marks, and the parts they mark; undefined if it has more marks than were written. */
  read(marked: string): { text: string; parts: Part[] | undefined } {
    const parts: Part[] = [];
    const open: Part[] = [];
    let text = "";
    let from = 0;
    let ends = 0;
    for (const { 0: mark, 1: message, index } of marked.matchAll(MARKS)) {
      text += marked.slice(from, index);
      from = index + mark.length;
      if (message !== undefined) {
        open.push({ message: Number(message), start: text.length, end: text.length });
        parts.push(open.at(-1)!);
        continue;
      }
      ends++;
      const part = open.pop();
      if (part !== undefined) part.end = text.length;
    }
    const isMine = parts.length === this.count && this.count === ends;
    return { text: text + marked.slice(from), parts: isMine ? parts : undefined };
  }
}
