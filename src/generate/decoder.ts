// A network that reads a sequence piece by piece: tokens in, logits of the next token out. Until `close` it holds the
// keys and values of all tokens read, and every block's weights in compute form, unless it opens one block after the
// other each time.
import { makeContext } from "../model/context.js";
import { freshRouting } from "../model/routing.js";
import { scaleLogits_ } from "../reversible/logits.js";
import type { OpenWeights } from "../model/weights.js";
import { passForward } from "../reversible/methods/method.js";
import { linear, narrow } from "../torch/ops.js";
import { free, scope } from "../torch/scope.js";
import { numel, readBytes, shape, type Tensor, to } from "../torch/tensor.js";
import { inPass } from "../network/evaluate.js";
import { embed, type Network, OpenUnit, openHead, outerNames, type Segment, segmentsOf } from "../network/network.js";
import { GrowingCache } from "./cache.js";

// Tokens that pass the network at once: attention's scores of a long prompt would else take T * T * H numbers.
const TILE_TOKENS = 1024;

export interface DecoderOptions {
  tileTokens?: number;
  /** If not, weights take one block's memory, and are brought into compute form again for each token. */
  holdsBlocks?: boolean;
}

export class Decoder {
  readonly #network: Network;
  readonly #cache = new GrowingCache();
  readonly #segments: { segment: Segment; held: OpenUnit[] }[];
  #head: OpenWeights | null = null;
  readonly #tileTokens: number;
  #length = 0;

  constructor(network: Network, { tileTokens = TILE_TOKENS, holdsBlocks = true }: DecoderOptions = {}) {
    this.#network = network;
    this.#tileTokens = tileTokens;
    this.#segments = segmentsOf(network).map((segment) => ({ segment, held: [] }));
    if (!holdsBlocks) return;
    try {
      for (const { segment, held } of this.#segments)
        for (const layers of segment.units) held.push(new OpenUnit(network, layers));
      this.#head = openHead(network);
    } catch (failure) {
      this.close();
      throw failure;
    }
  }

  /** Reads further tokens, at least one, and returns the logits of the token after them. */
  advance(tokens_T: Int32Array): Float32Array {
    const length = this.#length + tokens_T.length;
    const last = Math.max(0, Math.ceil(tokens_T.length / this.#tileTokens) - 1) * this.#tileTokens;
    for (let start = 0; start < last; start += this.#tileTokens) {
      this.#inPass(() => void this.#hidden(tokens_T.subarray(start, start + this.#tileTokens), length));
    }
    return this.#inPass(() => this.#logits(this.#hidden(tokens_T.subarray(last), length)));
  }

  readonly #inPass = <T>(work: () => T): T => inPass(this.#network, () => scope(work));

  close(): void {
    for (const { held } of this.#segments) for (const unit of held) unit.close();
    this.#head?.close();
    this.#cache.free();
  }

  /**
   * Hidden states behind the last block; temporaries belong to the caller's scope. `length` is that of the text so far.
   */
  #hidden(tokens_T: Int32Array, length: number): Tensor {
    const { model, computeDtype, device } = this.#network;
    const positions = Array.from(tokens_T, (_, i) => this.#length + i);
    const context = makeContext(model.architecture, positions, [tokens_T.length], {
      computeDtype,
      device,
      routing: freshRouting,
      cache: this.#cache,
      length,
    });
    let hidden_TD = embed(this.#network, tokens_T);
    for (const { segment, held } of this.#segments) {
      let streams = segment.coupling.begin(hidden_TD, segment.format);
      for (const [i, layers] of segment.units.entries()) {
        const unit = held[i] ?? new OpenUnit(this.#network, layers);
        try {
          const after = passForward(i, unit, { context, streams, dStreams: [], kept: [] }, segment).streams;
          free(...streams);
          streams = after;
        } finally {
          if (held.length === 0) unit.close();
        }
      }
      hidden_TD = segment.coupling.end(streams, segment.format);
    }
    this.#length += tokens_T.length;
    return hidden_TD;
  }

  #logits(hidden_TD: Tensor): Float32Array {
    const { model, computeDtype } = this.#network;
    const { norm, head: headName } = outerNames(this.#network);
    const last_1D = narrow(hidden_TD, 0, shape(hidden_TD)[0] - 1, 1);
    const head = this.#head ?? openHead(this.#network);
    try {
      const normed_1D = model.architecture.finalNorm(head.get(norm.name), last_1D, computeDtype);
      const logits_1V = scaleLogits_(
        model.architecture.scales,
        to(linear(normed_1D, head.get(headName.name)), "float32"),
      );
      const logits = new Float32Array(numel(logits_1V));
      readBytes(logits_1V, 0, new Uint8Array(logits.buffer));
      return logits;
    } finally {
      if (this.#head === null) head.close();
    }
  }
}
