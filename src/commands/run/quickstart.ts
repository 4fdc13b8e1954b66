// `revmoe quickstart`: the whole way on a model that comes with the repository. It fine-tunes all its parameters on
// Moby-Dick with reversible blocks. It shows held-out loss and a sample of text before and after, the memory of a step
// by term beside checkpointing and storing, and what that means for deep and for large models. It takes under three
// minutes on two cores.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { listCheckpoints } from "../../checkpoint/run/checkpoints.js";
import { isRunFolder } from "../../checkpoint/run/marker.js";
import { UserError } from "../../errors.js";
import { formatBytes, formatTable } from "../../format.js";
import { consoleSink } from "../../metrics/sinks/console.js";
import type { RunEvent } from "../../metrics/record.js";
import { memoryTerms, type MemoryTerms } from "../../step/memory-terms.js";
import { freeRun, prepareRun, type Run } from "../../train/prepare.js";
import { resolveSettings } from "../../train/settings/settings.js";
import type { SettingsOf } from "../../settings/table.js";
import type { CommandInput } from "../command.js";
import { train } from "../../train/loop.js";
import { trainStep } from "../../step/step.js";
import { asOrdinary } from "../../network/network.js";
import { METHODS } from "../../reversible/methods/registry.js";
import { resetPeak } from "../../torch/memory.js";
import { generateTokens } from "../../generate/generate.js";
import { loadTokenizer } from "../../data/tokenizer/tokenizer.js";
import { planChart } from "../../plan/svg.js";
import { writeDrawing } from "../drawing/drawing.js";
import { FOLDER, type ROWS } from "../quickstart.js";
import { bars, deepPlans, deepTitle, deepWords, largeWords } from "../quickstart/picture.js";

const PROMPT = "The old captain looked at the sea and";
/** File in the run's folder. */
const PICTURE = "memory.svg";
const EXAMPLES = fileURLToPath(new URL("../../../examples/", import.meta.url));

export async function run({ settings, out }: CommandInput<typeof ROWS>): Promise<number> {
  const say = (text = ""): void => void out.write(`${text}\n`);
  checkFolder(settings.output_dir);
  say(`Fine-tuning examples/tiny-moe (8.1 M parameters, 8 experts a layer, pretrained on speeches) on Moby-Dick:`);
  say("all parameters, reversible blocks, activations rebuilt instead of kept.\n");
  const run = await prepareRun(quickSettings(settings));
  const losses: Extract<RunEvent, { kind: "eval" }>[] = [];
  const progress = consoleSink({ out, totalSteps: run.totalSteps, env: process.env });
  const sink = {
    write: (event: RunEvent): void => {
      if (event.kind === "eval") losses.push(event);
      progress.write(event);
    },
    close: () => progress.close(),
  };
  try {
    const before = await sample(run, "ordinary");
    const { folder } = await train(run, sink);
    sink.close();
    const [first, converted, trained, exported] = losses.map(({ evalLoss }) => evalLoss.toFixed(3));
    say("\nHeld-out loss on chapters that were not trained on:");
    say(
      formatTable(
        ["", "loss"],
        [
          ["before, as the ordinary network", first],
          ["before, converted", converted],
          ["after, as trained", trained],
          ["after, as the ordinary network", exported],
        ],
      ),
    );
    say("\nMemory of one training step of 2048 tokens at its peak, by term:");
    say(memoryTable(await compareMethods(run), run.state.network.model.architecture.layers.length));
    const deep = deepPlans();
    const picture = join(settings.output_dir, PICTURE);
    writeDrawing(picture, planChart(deep, deepTitle));
    say(`\nThat is a small step. ${deepTitle[0].toUpperCase()}${deepTitle.slice(1)}, planned (${picture}):\n`);
    say(bars(deep));
    say(`\n${[...deepWords(deep), largeWords(settings.output_dir)].join("\n")}`);
    say(`\n"${PROMPT}" ... before:\n  ${before}\n... after:\n  ${await sample(run, "trained")}`);
    say(`\nThe result is in ${folder}, an ordinary Hugging Face folder. Try:`);
    say(`  npx revmoe generate --model ${folder} --prompt "Call me"`);
    return 0;
  } finally {
    freeRun(run);
  }
}

/**
 * Refuses to replace a run silently, unless a quickstart left it: then it has no checkpoint and lies in the default
 * folder.
 */
function checkFolder(dir: string): void {
  if (!existsSync(dir) || !isRunFolder(dir) || (dir === FOLDER && listCheckpoints(dir).length === 0)) return;
  throw new UserError(
    `output_dir: ${dir} already holds a run, which quickstart does not replace. Choose another folder with --output-dir.`,
  );
}

function quickSettings({ output_dir, max_steps, threads }: SettingsOf<typeof ROWS>) {
  return resolveSettings({
    flags: {
      model: join(EXAMPLES, "tiny-moe"),
      train_file: join(EXAMPLES, "moby-dick/train.jsonl"),
      validation_file: join(EXAMPLES, "moby-dick/valid.jsonl"),
      output_dir,
      overwrite_output_dir: true,
      max_steps,
      threads,
      max_length: 256,
      per_device_train_batch_size: 8,
      per_device_eval_batch_size: 8,
      learning_rate: 1e-3,
    },
  }).settings;
}

/**
 * Makes one step with each method on the same tokens, with learning rate zero; all but reversible use the ordinary
 * network.
 */
async function compareMethods(run: Run): Promise<Map<string, MemoryTerms>> {
  const batches = [run.data.next()];
  const rows = new Map<string, MemoryTerms>();
  for (const method of [METHODS.reversible, METHODS.checkpoint, METHODS.store]) {
    const network = method === METHODS.reversible ? run.state.network : asOrdinary(run.state.network);
    resetPeak();
    const result = trainStep(network, run.states, batches, {
      method,
      step: run.totalSteps + 1,
      learningRate: 0,
      maxBlockGradNorm: 1,
      seed: 1,
    });
    rows.set(method.name, memoryTerms(network, run.states, result));
  }
  return rows;
}

function memoryTable(rows: Map<string, MemoryTerms>, layers: number): string {
  const bytes: [string, (terms: MemoryTerms) => number][] = [
    ["weights", (terms) => terms.weightBytes],
    ["optimizer", (terms) => terms.stateBytes],
    ["gradient", (terms) => terms.gradientBytes],
    ["streams", (terms) => terms.streamBytes],
    ["working set", (terms) => terms.workBytes],
    ["kept for backward", (terms) => terms.keptBytes],
    ["= peak", (terms) => terms.peakBytes],
    ["each further block keeps", (terms) => terms.keptBytes / layers],
  ];
  return formatTable(
    ["", ...bytes.map(([name]) => name)],
    [...rows].map(([method, terms]) => [method, ...bytes.map(([, of]) => formatBytes(of(terms)))]),
  );
}

/** Forty tokens after the prompt, by the weights as they are now. */
async function sample({ state: { network }, source }: Run, as: "trained" | "ordinary"): Promise<string> {
  const tokenizer = loadTokenizer(source);
  const seen = as === "trained" ? network : asOrdinary(network);
  const tokens = [
    ...generateTokens(seen, tokenizer.encode(PROMPT), { maxNewTokens: 40, temperature: 0.7, topP: 0.9, seed: 7 }),
  ];
  return tokenizer.decode(tokens).trim().replaceAll("\n", " ");
}
