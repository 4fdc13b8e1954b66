// `open(folder)` for programs: a model that generates text. Files are checked when it is opened; weights are loaded for
// the first text, and freed by `close`. It prints nothing unless it is given an output. Device and number of threads
// belong to the process.
import { openSource } from "../checkpoint/source.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer/tokenizer.js";
import { UserError } from "../errors.js";
import { readArchitecture } from "../families/registry.js";
import { checkPrompt, generateTokens, roomBehind } from "../generate/generate.js";
import { chooseNetwork, openNetwork } from "../generate/open-network.js";
import { encodePrompt } from "../generate/prompt.js";
import { findStopIds } from "../generate/stop-ids.js";
import { namedModel } from "../hub/named-model.js";
import type { Output } from "../metrics/output.js";
import { freeModel } from "../model/model.js";
import type { NetworkDescription } from "../network/description.js";
import type { Network } from "../network/network.js";
import { type ModelFacts, modelFacts } from "../plan/model-facts.js";
import { setThreads, useDevice } from "../torch/device.js";
import { type GenerateOptions, type GenerateSettings, GENERATE_TABLE, type OpenSettings } from "./generate-settings.js";
import { Generation } from "./generation.js";
import { readSettings } from "./settings.js";

export interface OpenOptions extends OpenSettings {
  /** Gets notes, such as which folder of a run is used and how a download goes; without it, there are none. */
  output?: Pick<Output, "write">;
}

/** An open model. Close it, or let `using` do so. */
export interface OpenModel {
  /** The folder or file that was opened; for a run's folder, its result or else its newest checkpoint. */
  readonly folder: string;
  /** The network that it computes: with the coupling it was trained with, or the ordinary one. */
  readonly network: NetworkDescription;
  /**
   * What `revmoe info` says: family, layers, parameters, bytes, templates. Collected at the first use; reads no
   * weights.
   */
  readonly info: ModelFacts;
  /**
   * The text that follows a prompt, in pieces as they come; the first text loads the weights. Errors: UserError, at
   * once, for a prompt that is empty or too long, and for impossible options.
   */
  generate(prompt: string, options?: GenerateOptions): Generation;
  /** Frees the weights, and ends texts that are being generated. A second call does nothing. */
  close(): void;
  [Symbol.dispose](): void;
}

/**
 * Opens a Hugging Face checkpoint, a run's folder, a .gguf file, or a model by its name on a hub.
 *
 *     const model = await open("runs/first");
 *     for await (const piece of model.generate("Why?", { chat: true })) process.stdout.write(piece);
 *     model.close();
 *
 * Errors: UserError with the sentence that the command line prints.
 */
export async function open(model: string, { output, ...options }: OpenOptions = {}): Promise<OpenModel> {
  const out: Output = { write: (text) => output?.write(text) };
  const { settings } = readSettings(GENERATE_TABLE, { ...options, model, prompt: "-" });
  useDevice(settings.device);
  setThreads(settings.threads);
  const { folder } = await namedModel(model, "use", { out });
  return new Opened(folder, settings, options, out);
}

class Opened implements OpenModel {
  readonly folder: string;
  readonly network: NetworkDescription;
  readonly #asked: GenerateSettings;
  readonly #options: OpenSettings;
  readonly #out: Output;
  readonly #source;
  readonly #tokenizer: Tokenizer;
  readonly #generations = new Set<Generation>();
  #facts: ModelFacts | undefined;
  #loaded: Network | undefined;
  #closed = false;

  constructor(folder: string, asked: GenerateSettings, options: OpenSettings, out: Output) {
    this.folder = folder;
    this.#asked = asked;
    this.#options = options;
    this.#out = out;
    this.#source = openSource(folder);
    this.network = chooseNetwork(folder, asked.as);
    this.#tokenizer = loadTokenizer(this.#source);
  }

  get info(): ModelFacts {
    return (this.#facts ??= modelFacts(this.folder, ""));
  }

  generate(prompt: string, options: GenerateOptions = {}): Generation {
    this.#checkOpen();
    const { settings, given } = readSettings(GENERATE_TABLE, {
      ...options,
      ...this.#options,
      model: this.#asked.model,
      prompt,
    });
    const { chat, temperature, top_k: topK, top_p: topP, seed } = settings;
    const tokenizer = this.#tokenizer;
    if (chat && tokenizer.chatTemplate === undefined) {
      throw new UserError(
        `chat: ${this.#asked.model} has no chat template (expected chat_template in tokenizer_config.json, or the file ` +
          "chat_template.jinja). Leave chat out, or add the model's template.",
      );
    }
    const promptIds = encodePrompt(tokenizer, prompt, { chat }).ids;
    const maxNewTokens = this.#within(settings.max_new_tokens, given.has("max_new_tokens"), promptIds);
    const stopIds = findStopIds(this.#source, tokenizer, { chat });
    const generation: Generation = new Generation({
      tokenizer,
      promptIds,
      tokens: () => {
        this.#checkOpen();
        const tokens = generateTokens(this.#load(), promptIds, {
          maxNewTokens,
          temperature,
          topK,
          topP,
          seed,
          stopIds,
        });
        this.#generations.add(generation);
        return tokens;
      },
      ended: () => void this.#generations.delete(generation),
    });
    return generation;
  }

  close(): void {
    this.#closed = true;
    for (const generation of this.#generations) generation.stop();
    if (this.#loaded) freeModel(this.#loaded.model);
    this.#loaded = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Most tokens: fewer than the default if the model has no positions for it. Errors come before weights are read. */
  #within(wanted: number, asked: boolean, promptIds: number[]): number {
    const architecture = readArchitecture(this.#source.config, this.#source.configPath);
    const room = roomBehind(architecture, promptIds.length);
    const most = asked || room <= 0 ? wanted : Math.min(room, wanted);
    if (most < wanted)
      this.#out.write(
        `note: at most ${room} new tokens, for the model has ${architecture.maxPositions} positions and the prompt takes ${promptIds.length}\n`,
      );
    checkPrompt(architecture, promptIds, most);
    return most;
  }

  #load(): Network {
    const { as, device, compute_dtype: computeDtype } = this.#asked;
    return (this.#loaded ??= openNetwork(this.#source, { as, device, computeDtype }));
  }

  #checkOpen(): void {
    if (this.#closed) throw new UserError(`model: ${this.folder} is closed. Open it again.`);
  }
}
