// Experts that stay on the ranks that hold them, while rows of tokens go there and back. A token goes once to each rank
// that it needs, and comes back as the sum over that rank's experts. An expert's rows of all ranks are computed
// together, in the order of the ranks, so the gradients of its matrices are complete on its rank. All ranks make the
// same rounds (rounds.ts), also those without rows. Owns the graphs of rounds until their backward pass, or `close`.
import { assert, BadValuesError } from "../../errors.js";
import { EXPERT_MATRICES, type Experts, type ExpertsElsewhere, isExpertMatrix } from "../../model/expert-rows.js";
import { type Model, placedParameters } from "../../model/model.js";
import { agreed, ToldError } from "../../parallel/agreed.js";
import type { Collectives, RowExchange } from "../../parallel/collectives.js";
import { backwardThrough, customFunction, freeGraph, type Graph, isRecorded } from "../../torch/graph.js";
import type { ParameterStore } from "../../store/store.js";
import { detach } from "../../torch/autograd.js";
import { cast, cat, indexSelect, reshape, unsqueeze } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type DType, dtype, empty, type Rows, shape, type Tensor, toArray } from "../../torch/tensor.js";
import { reachedShare } from "./reached-share.js";
import { nextRound, type Round, type Wish } from "./rounds.js";
import { throughExperts } from "./through-experts.js";
import { byChoice, byRow, outgoing, setsByRank, sum, sumsOfRows } from "./token-rows.js";

export interface TravelOptions {
  ranks: Collectives;
  /** For each rank, the experts of a layer that it holds; null for a layer without experts. */
  rowsOf(layer: number): readonly Rows[] | null;
  width: number;
  computeDtype: DType;
  device: string;
}

/**
 * What this rank sends: by rank, a row of every token that goes there; on the way there also gate and number (see
 * `Outgoing`) of every choice, by expert.
 */
interface Sent {
  x_SD: Tensor;
  choices_R2: Tensor | null;
}

/** How many rows go to each rank, and how many come from each. */
interface Trip {
  sent: number[];
  received: number[];
}

/** A round whose backward pass is still to come. */
interface Recorded {
  ranks: readonly number[];
  tokens: Trip;
  choices: Trip;
  /** Null if no row came. */
  graph: Graph | null;
}

const ALL_SENT: Wish = { kind: "none" };

/** The traveling experts of a model whose store leaves experts where they are. */
export function travelingExperts(
  {
    model,
    store,
    computeDtype,
    device,
  }: Pick<TravelOptions, "computeDtype" | "device"> & {
    model: Model;
    store: ParameterStore;
  },
  ranks: Collectives,
): TravelingExperts {
  const { sharing } = store;
  assert(sharing !== null, "experts stay where all are everywhere");
  const all = Array.from({ length: ranks.world }, (_, rank) => rank);
  const rows = new Map(
    placedParameters(model.architecture)
      .filter(({ spec }) => spec.name === EXPERT_MATRICES.gateUp)
      .map((placed) => [placed.layer, all.map((rank) => sharing.rows(placed, rank))] as const),
  );
  const rowsOf = (layer: number) => rows.get(layer) ?? null;
  return new TravelingExperts({ ranks, rowsOf, width: model.architecture.hiddenSize, computeDtype, device });
}

export class TravelingExperts implements ExpertsElsewhere {
  readonly #options: TravelOptions;
  readonly #exchange: RowExchange;
  readonly #all: number[];
  readonly #recorded = new Map<number, Recorded>();
  readonly #turns = new Map<number, number>();
  #round = 0;
  #slot = 0;
  #open: ((layer: number) => Experts) | null = null;

  constructor(options: TravelOptions) {
    this.#options = options;
    this.#exchange = options.ranks.exchange();
    this.#all = Array.from({ length: options.ranks.world }, (_, rank) => rank);
  }

  /** Whether a parameter of a block is used only where it is held. */
  readonly stays = (name: string): boolean => isExpertMatrix({ name });

  /**
   * Runs `work` on each of this rank's micro-batches, and then serves what other ranks still need of these blocks, or
   * want to say of a failure. `open` gives a layer's experts, with only this rank's matrices.
   */
  inTurn<Each>(microBatches: readonly Each[], open: (layer: number) => Experts, work: (each: Each) => void): void {
    this.#open = open;
    for (const [slot, each] of microBatches.entries()) {
      this.#slot = slot;
      this.#turns.clear();
      work(each);
    }
    this.#until(ALL_SENT, null);
    this.#open = null;
  }

  /** Runs `work`; a BadValuesError of one rank becomes the same BadValuesError on all ranks. */
  together<T>(work: () => T): T {
    const { ranks } = this.#options;
    try {
      const made = work();
      this.#until(ALL_SENT, null);
      return made;
    } catch (failure) {
      if (!(failure instanceof BadValuesError) || failure instanceof ToldError) throw failure;
      ranks.gather<Wish>({ kind: "failed" });
      agreed(ranks, () => {
        throw failure;
      });
      throw failure;
    }
  }

  output(
    x_TD: Tensor,
    { gates_TA, places_TA, counts_E }: { gates_TA: Tensor; places_TA: Tensor; counts_E: Tensor },
    layer: number,
  ): Tensor {
    const counts = toArray(counts_E);
    const [tokens, perToken] = shape(places_TA);
    let of = -1;
    const slot = this.#slot;
    const forward = (): { output: Tensor; saved: Tensor[] } => {
      const rows = this.#rowsOf(layer);
      const expected = (): number[] =>
        rows.map(({ count }) => Math.round(tokens * reachedShare(perToken, counts.length, count)));
      const choices = rows.map(({ first, count }) => sum(counts.slice(first, first + count)));
      const going = outgoing(places_TA, choices, expected, this.#gatesDtype);
      const { token_S } = going;
      const sent = (): Sent => {
        const gates_R = byRow(places_TA, cast(gates_TA, this.#gatesDtype));
        const choices_R2 = cat(
          [gates_R, going.number_R].map((each) => unsqueeze(each, 1)),
          1,
        );
        return { x_SD: indexSelect(x_TD, 0, token_S), choices_R2 };
      };
      const said = { layer, counts, tokens: going.tokens };
      const turn = this.#turns.get(layer) ?? 0;
      const wish: Wish = isRecorded() ? { kind: "record", slot, turn, ...said } : { kind: "value", ...said };
      if (wish.kind === "record") this.#turns.set(layer, turn + 1);
      const [y_SD] = this.#until(wish, sent);
      of = this.#round;
      return {
        output: sumsOfRows(y_SD, tokens, setsByRank(token_S, going.tokens)),
        saved: [token_S, detach(places_TA)],
      };
    };
    const gradient = (dy_TD: Tensor, _output: Tensor, [token_S, places]: Tensor[]): Tensor[] => {
      const sets = setsByRank(token_S, this.#at(of).tokens.sent);
      const sent = (): Sent => ({ x_SD: indexSelect(dy_TD, 0, token_S), choices_R2: null });
      const [dx_SD, dGates_R] = this.#until({ kind: "gradient", slot, of }, sent);
      return [sumsOfRows(dx_SD, tokens, sets), cast(byChoice(places, dGates_R), dtype(gates_TA))];
    };
    return customFunction([x_TD, gates_TA], forward, gradient);
  }

  close(): void {
    for (const { graph } of this.#recorded.values()) if (graph !== null) freeGraph(graph);
    this.#recorded.clear();
  }

  /**
   * Makes rounds until one includes this rank's wish; returns what came back, in the order of what was sent. Tensors
   * belong to the caller's scope.
   */
  #until(wish: Wish, sent: (() => Sent) | null): Tensor[] {
    const { ranks } = this.#options;
    for (;;) {
      const wishes = ranks.gather(wish);
      const round = nextRound(wishes, (of) => this.#at(of).ranks);
      if (round.kind === "failed") {
        agreed(ranks, () => {});
        assert(false, "a rank has failed, and does not say how");
      }
      if (round.kind === "none") return [];
      this.#round++;
      if (sent !== null && round.ranks.includes(ranks.rank)) return scope(() => this.#take(round, wishes, sent()));
      scope(() => void this.#take(round, wishes, null));
    }
  }

  #take(round: Round, wishes: readonly Wish[], own: Sent | null): Tensor[] {
    const wish = wishes[round.ranks[0]];
    if (wish.kind === "gradient") return this.#differentiate(wish.of, own);
    assert(wish.kind === "value" || wish.kind === "record", "nothing is wished for");
    const { rank } = this.#options.ranks;
    const rows = this.#rowsOf(wish.layer);
    /** What a rank said of this round, if it takes part. */
    const saidBy = (from: number) => {
      const said = wishes[from];
      return round.ranks.includes(from) && "counts" in said ? said : null;
    };
    const countsOf = (from: number, to: number): readonly number[] => {
      const { first, count } = rows[to];
      return saidBy(from)?.counts.slice(first, first + count) ?? new Array<number>(count).fill(0);
    };
    const counts = this.#all.map((from) => countsOf(from, rank));
    const choices = { sent: this.#all.map((to) => sum(countsOf(rank, to))), received: counts.map(sum) };
    const tokensOf = (from: number, to: number): number => saidBy(from)?.tokens[to] ?? 0;
    const tokens = {
      sent: this.#all.map((to) => tokensOf(rank, to)),
      received: this.#all.map((from) => tokensOf(from, rank)),
    };
    const { width, computeDtype } = this.#options;
    const x_SD = this.#there(own?.x_SD ?? this.#none(width, computeDtype), tokens);
    const choices_R2 = this.#there(own?.choices_R2 ?? this.#none(2, this.#gatesDtype), choices);
    const came = { x_SD, choices_R2, counts, tokens: tokens.received };
    const { y_SD, graph } = throughExperts(came, () => this.#expertsOf(wish.layer), wish.kind === "record");
    if (wish.kind === "record") this.#recorded.set(this.#round, { ranks: round.ranks, tokens, choices, graph });
    return [this.#back(y_SD, tokens)];
  }

  /** Gradients of a round's rows, and of the gates of their choices. */
  #differentiate(of: number, own: Sent | null): Tensor[] {
    const { tokens, choices, graph } = this.#at(of);
    const { width, computeDtype } = this.#options;
    this.#recorded.delete(of);
    const dy_SD = this.#there(own?.x_SD ?? this.#none(width, computeDtype), tokens);
    const none = (): Tensor[] => [dy_SD, this.#none(1, this.#gatesDtype)];
    const [dx_SD, dGates_R1] = graph === null ? none() : backwardThrough(graph, dy_SD);
    assert(dx_SD !== null && dGates_R1 !== null, "experts do not depend on their rows");
    return [this.#back(dx_SD, tokens), reshape(this.#back(dGates_R1, choices), [-1])];
  }

  #there(rows: Tensor, { sent, received }: Trip): Tensor {
    return this.#exchange(rows, this.#all, sent, received);
  }

  #back(rows: Tensor, { sent, received }: Trip): Tensor {
    return this.#exchange(rows, this.#all, received, sent);
  }

  #rowsOf(layer: number): readonly Rows[] {
    const rows = this.#options.rowsOf(layer);
    assert(rows !== null, `layer ${layer} has no experts`);
    return rows;
  }

  /** Biases are complete on every rank; this takes those of this rank's experts. */
  #expertsOf(layer: number): Experts {
    const { ranks } = this.#options;
    assert(this.#open !== null, "rows arrive between blocks");
    const experts = this.#open(layer);
    const { first, count } = this.#rowsOf(layer)[ranks.rank];
    const all = experts.biases.length / 2;
    const biases = experts.biases.filter((_, i) => i % all >= first && i % all < first + count);
    return { ...experts, biases };
  }

  #at(of: number): Recorded {
    const recorded = this.#recorded.get(of);
    assert(recorded !== undefined, `round ${of} has no way back`);
    return recorded;
  }

  get #gatesDtype(): DType {
    return this.#options.computeDtype === "float64" ? "float64" : "float32";
  }

  #none(columns: number, type: DType): Tensor {
    return empty([0, columns], type, this.#options.device);
  }
}
