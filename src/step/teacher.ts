// The network that a run started from, as the teacher of what it became: the ordinary network of the original weights.
// It is read block by block from its files while micro-batches pass, so there is no second copy of the model. Only the
// final hidden states of a pass stay, until the loss. Owns the mapped files until `close`.
import type { ModelSource } from "../checkpoint/source.js";
import { type StreamedModel, streamModel } from "../checkpoint/stream.js";
import type { OpenWeights } from "../model/weights.js";
import { divergence, type Objective } from "../reversible/objectives.js";
import { ordinary } from "../reversible/couplings/ordinary.js";
import { floatStreams } from "../reversible/streams.js";
import { ledger } from "../torch/memory.js";
import { free, keep, scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";
import { throughBlocks } from "../network/evaluate.js";
import type { HeldBatch } from "../network/held-batch.js";
import { embed, type Network, openHead, outerNames } from "../network/network.js";
import { deviceStore } from "../store/device.js";

/** What a teacher says of a step's micro-batches. */
export interface TeacherTargets {
  /** One for each micro-batch. */
  objectives: Objective[];
  /** Bytes alive until `free`: hidden states, and the head unless it is a view of its file. */
  bytes: number;
  free(): void;
}

export class Teacher {
  readonly #streamed: StreamedModel;
  readonly #network: Network;
  readonly #temperature: number;

  /** Computes as `network` does. Throws a UserError when the weights do not fit the source's config.json. */
  constructor(source: ModelSource, { computeDtype, device, lossTileTokens, tileTokens }: Network, temperature: number) {
    this.#streamed = streamModel(source, device);
    this.#temperature = temperature;
    const { architecture, read } = this.#streamed;
    this.#network = {
      model: { architecture, outer: {}, blocks: [] },
      coupling: ordinary,
      format: floatStreams("float32"),
      computeDtype,
      device,
      store: deviceStore(device),
      lossTileTokens,
      tileTokens,
      read,
      trains: () => false,
    };
  }

  /** Passes the micro-batches forward, layer by layer; the caller frees the result. */
  targets(batches: HeldBatch[]): TeacherTargets {
    const { device } = this.#network;
    const before = ledger(device).liveBytes;
    const hidden = this.#pass(batches);
    try {
      const open = this.#openHead();
      try {
        for (const [i, last_TD] of hidden.entries()) {
          hidden[i] = keep(this.#normed(open, last_TD));
          free(last_TD);
        }
      } catch (failure) {
        open.close();
        throw failure;
      }
      const head_VD = open.get(outerNames(this.#network).head.name);
      return {
        objectives: hidden.map((hidden_TD) =>
          divergence({
            hidden_TD,
            head_VD,
            scales: this.#streamed.architecture.scales,
            temperature: this.#temperature,
          }),
        ),
        bytes: ledger(device).liveBytes - before,
        free: () => {
          open.close();
          free(...hidden);
        },
      };
    } catch (failure) {
      free(...hidden);
      throw failure;
    }
  }

  close(): void {
    this.#streamed.close();
  }

  #pass(batches: HeldBatch[]): Tensor[] {
    const { name } = outerNames(this.#network).embedding;
    const embedded = this.#with([name], (network) => batches.map(({ tokens }) => embed(network, tokens))).map(keep);
    return throughBlocks(this.#network, batches, embedded);
  }

  #openHead(): OpenWeights {
    const { norm, head } = outerNames(this.#network);
    return this.#with([norm.name, head.name], openHead);
  }

  #normed(open: OpenWeights, last_TD: Tensor): Tensor {
    const { model, computeDtype } = this.#network;
    return scope(() =>
      model.architecture.finalNorm(open.get(outerNames(this.#network).norm.name), last_TD, computeDtype),
    );
  }

  /** Runs `fn` with some outer parameters loaded. */
  #with<Result>(names: string[], fn: (network: Network) => Result): Result {
    return scope(() => {
      const outer = Object.fromEntries(names.map((name) => [name, this.#streamed.read(-1, name)]));
      return fn({ ...this.#network, model: { ...this.#network.model, outer } });
    });
  }
}
