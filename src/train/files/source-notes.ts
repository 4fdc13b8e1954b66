// Notes on a model's files before a run begins: a dtype that is not kept, lengths that it does not know, texts that
// will have no end token.
import type { ModelSource } from "../../checkpoint/source.js";
import { ROW_KINDS } from "../../data/conversations/registry.js";
import type { DataReport } from "../../data/make-documents.js";
import type { Tokenizer } from "../../data/tokenizer/tokenizer.js";
import type { Architecture } from "../../model/architecture.js";
import type { TrainSettings } from "../settings/settings.js";

export function lengthNote(
  { max_length: longest }: Pick<TrainSettings, "max_length">,
  { maxPositions }: Pick<Architecture, "maxPositions">,
): string[] {
  if (longest <= maxPositions) return [];
  return [
    `max_length ${longest} is more than the ${maxPositions} positions that the model knows (max_position_embeddings in config.json): ` +
      "what stands behind them in a row is guessed at, and other tools may refuse such lengths",
  ];
}

export function endNote({ formats, fields }: DataReport, { eosId }: Tokenizer): string[] {
  // Prompt and completion may be messages, which the template ends.
  const areMessages = formats.length === 1 && fields.length > 0;
  const isText = formats.some((format) =>
    ROW_KINDS[format].makes.some((kind) => kind === "text" || (kind === "completion" && !areMessages)),
  );
  if (!isText || eosId !== undefined) return [];
  return [
    "the tokenizer names no end token, so rows get none behind them, and the model does not learn where to stop; name one with eos_token",
  ];
}

/** A note that float16 weights are trained as float32, since float16 has too little range. */
export function dtypeNote({ weights_dtype, init_weights }: TrainSettings, source: ModelSource): string[] {
  if (init_weights === "random" || weights_dtype !== "auto" || !holdsFloat16(source)) return [];
  return [
    "the model's weights are float16, which has too little range to train in: they are trained and saved as float32, which is twice the size. " +
      "weights_dtype bfloat16 keeps the size; revmoe export --dtype float16 makes the result float16 again",
  ];
}

function holdsFloat16(source: ModelSource): boolean {
  const folder = source.openWeights();
  try {
    return [...folder.tensors.values()].some(({ dtype }) => dtype === "float16");
  } finally {
    folder.close();
  }
}
