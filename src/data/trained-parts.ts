// What of a row is trained, in the words of settings. Imports nothing, since the settings import the names.

/**
 * What of a row is trained. Texts without a prompt are always trained whole.
 *   assistant   turns of the assistant, also in a prompt; if prompt and completion are texts, the completion
 *   last        only the last of these turns
 *   completion  turns of the assistant in the completion; in rows without one, like assistant
 *   all         every token
 */
export type TrainOn = "assistant" | "last" | "completion" | "all";
export const TRAIN_ON = ["assistant", "last", "completion", "all"] as const satisfies TrainOn[];

/** Which parts of a sample are trained. */
export interface TrainedParts {
  /** Whether only the assistant's turns of a conversation are trained. */
  assistant_only_loss: boolean;
  /** Whether only the completion of a prompt and completion is trained. */
  completion_only_loss: boolean;
  /** Replaces both. */
  train_on?: TrainOn;
  /** Variables for the chat template, as {enable_thinking: false}. */
  chat_template_kwargs?: Record<string, unknown>;
}
