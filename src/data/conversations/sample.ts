// What a row means once it is read: a conversation, a prompt with its completion, text, or tokens made elsewhere.
// Content reaches the template unchanged, also keys that only a template knows (tool_calls, reasoning_content).

export interface Message {
  role: string;
  /** Null or absent only beside tool_calls. */
  content?: string | null;
  [key: string]: unknown;
}

interface Conversation {
  tools: unknown[] | undefined;
  /** What a row says of its messages' training: false is never trained, true is trained if its role is. */
  trains?: boolean[];
  /** Variables for the chat template, beside those of the settings. */
  kwargs?: Record<string, unknown>;
}

export type Sample =
  | ({ kind: "messages"; messages: Message[] } & Conversation)
  /** `trains` has the prompt's messages first, then the completion's. */
  | ({ kind: "chat_completion"; prompt: Message[]; completion: Message[] } & Conversation)
  | { kind: "completion"; prompt: string; completion: string }
  | { kind: "text"; text: string }
  /** `trained` is 1 where the loss of predicting this token counts. */
  | { kind: "tokens"; ids: Int32Array; trained: Uint8Array };
