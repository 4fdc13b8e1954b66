// What a row means once it is read: a conversation, a prompt with its completion, text, or tokens made elsewhere. Content is
// handed to the template untouched, and so are keys that only a template knows (tool_calls, reasoning_content).

export interface Message {
  role: string;
  /** Null or absent only beside tool_calls. */
  content?: string | null;
  [key: string]: unknown;
}

interface Conversation {
  tools: unknown[] | undefined;
  /** Whether each message may be trained, where a row says so: false is never trained, true is as its role is. */
  trains?: boolean[];
  /** Variables for the chat template, beside those of the settings. */
  kwargs?: Record<string, unknown>;
}

export type Sample =
  | ({ kind: "messages"; messages: Message[] } & Conversation)
  /** `trains` has the prompt's messages, then the completion's. */
  | ({ kind: "chat_completion"; prompt: Message[]; completion: Message[] } & Conversation)
  | { kind: "completion"; prompt: string; completion: string }
  | { kind: "text"; text: string }
  /** `trained` has 1 where the loss is taken for the token itself, as it is predicted. */
  | { kind: "tokens"; ids: Int32Array; trained: Uint8Array };
