// What the network writes after a run's prompts, between steps. Reads the network as it is, and changes nothing that
// training uses: it draws from no generator, and opens one block at a time, so weights take no more memory than in a
// step.
import { UserError } from "../../errors.js";
import { generateTokens } from "../../generate/generate.js";
import { streamText } from "../../generate/stream-text.js";
import type { Sink } from "../../metrics/record.js";
import { asEvaluated } from "../../network/network.js";
import { onFirst } from "../../parallel/collectives.js";
import { during } from "../../torch/span.js";
import type { Run } from "../prepare.js";

/**
 * Writes samples to the sink, as of `step`. With several ranks the first makes them and the others wait; where no rank
 * has all weights, all make the same samples, with the first one's tokens.
 */
export function sampleRun(run: Run, sink: Sink, step: number): void {
  const { samples, ranks, state } = run;
  if (samples.prompts.length === 0) return;
  const write = (): void => during("samples", () => writeSamples(run, sink, step));
  if (state.network.store.sharing === null) onFirst(ranks, write);
  else write();
}

function writeSamples({ samples: { prompts, stopIds }, state, tokenizer, ranks }: Run, sink: Sink, step: number): void {
  const network = asEvaluated(state.network);
  const agreed = network.store.sharing === null ? undefined : (token: number) => ranks.gather(token)[0];
  try {
    for (const { text: prompt, ids, maxNewTokens } of prompts) {
      const tokens = generateTokens(network, ids, { maxNewTokens, stopIds, holdsBlocks: false, agreed });
      const text = [...streamText(tokens, tokenizer, ids)].join("");
      sink.write({ kind: "sample", step, prompt, text, network: network === state.network ? "trained" : "ordinary" });
    }
  } catch (failure) {
    // The steps deal with values that are not finite.
    if (!(failure instanceof UserError)) throw failure;
    sink.write({ kind: "message", step, message: `samples: ${failure.message}`, level: "warning" });
  }
}
