// `revmoe generate`: continues a prompt, or answers it, and prints the text as it comes. With --json the text is
// printed at the end, with counts and the time per token.
import { visibleText } from "../../format.js";
import type { GENERATE_ROWS } from "../../library/generate-settings.js";
import { open } from "../../library/open.js";
import { writeRaw } from "../../metrics/output.js";
import type { CommandInput } from "../command.js";

export async function run({ settings, given, json, out, err }: CommandInput<typeof GENERATE_ROWS>): Promise<number> {
  const asked = Object.fromEntries(Object.entries(settings).filter(([name]) => given.has(name)));
  const { model: named, prompt, as, device, threads, compute_dtype, ...options } = asked as Partial<typeof settings>;
  const model = await open(settings.model, { as, device, threads, compute_dtype, output: err });
  try {
    const generation = model.generate(settings.prompt, options);
    let text = "";
    for await (const piece of generation) {
      text += piece;
      // A file or a program gets every byte; a terminal would act on control characters.
      if (!json) writeRaw(out, out.isTTY ? visibleText(piece) : piece);
    }
    const { tokens, promptTokens, msPerToken } = generation;
    const record = { prompt: settings.prompt, text, tokens, promptTokens, msPerToken, network: model.network };
    if (json) out.write(`${JSON.stringify(record, null, 2)}\n`);
    else writeRaw(out, "\n");
    return 0;
  } finally {
    model.close();
  }
}
