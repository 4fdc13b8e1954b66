// A thread of workers.ts. It has its own tokenizer, and answers each message of rows with their documents or an error.
import { parentPort, workerData } from "node:worker_threads";

import { UserError } from "../../errors.js";
import { rowEncoder } from "./encode-rows.js";
import { fromMessage } from "./row-message.js";
import { loadFromInput } from "./tokenizer-input.js";
import { type Answer, packed, type Question, type Work } from "./workers.js";

const { input, settings } = workerData as Work;
const port = parentPort as NonNullable<typeof parentPort>;
const encode = rowEncoder(loadFromInput(input), settings);

port.on("message", ({ rows, format }: Question) => {
  try {
    const answer = packed(encode(rows.map(fromMessage), format));
    port.postMessage(answer, [answer.tokens.buffer as ArrayBuffer, answer.trained.buffer as ArrayBuffer]);
  } catch (error) {
    const { message, stack } = error as Error;
    port.postMessage({ failure: { message, stack, isRefusal: error instanceof UserError } } satisfies Answer);
  }
});
