// What of a row is trained, as settings say it. Imports nothing: the settings have the names.

/**
 * What is trained of a row. Texts without a prompt are trained whole.
 *   assistant   turns of the assistant, those of a prompt included; of prompt and completion as texts, the completion
 *   last        the last of these turns
 *   completion  turns of the assistant in the completion; in rows without one, as assistant
 *   all         every token
 */
export type TrainOn = "assistant" | "last" | "completion" | "all";
export const TRAIN_ON = ["assistant", "last", "completion", "all"] as const satisfies TrainOn[];

/** Which parts of a sample are trained. */
export interface TrainedParts {
  /** In conversations, only the assistant's turns are trained. */
  assistant_only_loss: boolean;
  /** Of prompt and completion, only the completion is trained. */
  completion_only_loss: boolean;
  /** In place of both. */
  train_on?: TrainOn;
  /** Variables for the chat template, as {enable_thinking: false}. */
  chat_template_kwargs?: Record<string, unknown>;
}
