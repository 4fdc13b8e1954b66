// Experts that stay on the ranks that hold them, while rows of tokens go there and back: every rank's rows for one expert meet on its rank, in the order of
// the ranks, and are computed together. So gradients of experts' matrices are whole where they are made. All ranks make the same rounds (rounds.ts),
// those without rows too. Owns the graphs of rounds until their way back, or `close`.
import { assert, BadValuesError } from "../../errors.js";
import {
  EXPERT_MATRICES,
  type Experts,
  type ExpertsElsewhere,
  expertsOutput,
  isExpertMatrix,
} from "../../model/expert-rows.js";
import { type Model, placedParameters } from "../../model/model.js";
import { agreed, ToldError } from "../../parallel/agreed.js";
import type { Collectives, RowExchange } from "../../parallel/collectives.js";
import { backwardThrough, customFunction, freeGraph, type Graph, isRecorded, record } from "../../torch/graph.js";
import type { ParameterStore } from "../../store/store.js";
import { detach } from "../../torch/autograd.js";
import { cast, indexSelect, reshape, unsqueeze } from "../../torch/ops.js";
import { scope } from "../../torch/scope.js";
import { type DType, dtype, empty, type Rows, type Tensor, toArray, writeBytes } from "../../torch/tensor.js";
import { nextRound, type Round, type Wish } from "./rounds.js";
import { byChoice, byRow, placesOfArrived, sumsOfRows, tokensOfRows, totals } from "./token-rows.js";

export interface TravelOptions {
  ranks: Collectives;
  /** The experts of a layer that each rank holds, by rank; null for a layer without any. */
  rowsOf(layer: number): readonly Rows[] | null;
  width: number;
  computeDtype: DType;
  device: string;
}

/** Rows of this rank by expert, and their gates where they have some. */
interface Sent {
  x_RD: Tensor;
  gates_R: Tensor | null;
}

/** A round that is to be gone back. */
interface Recorded {
  slot: number;
  ranks: readonly number[];
  /** Rows to each rank, and from each. */
  sent: number[];
  received: number[];
  /** Null where no row came. */
  graph: Graph | null;
}

const ALL_SENT: Wish = { kind: "none" };

/** Those of a model whose store leaves experts where they are. */
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

  /** Whether a parameter of a block is used where it is held, and nowhere else. */
  readonly stays = (name: string): boolean => isExpertMatrix({ name });

  /**
   * `work` on each of this rank's micro-batches, and then what others still need of these blocks, or to say that one has failed; `open` gives a layer's experts, of which this rank's
   * matrices alone.
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

  /** Whatever one rank meets in `work`, all do. Errors: the same BadValuesError on all. */
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
    let of = -1;
    const slot = this.#slot;
    const forward = (): { output: Tensor; saved: Tensor[] } => {
      const token_R = tokensOfRows(places_TA);
      const sent = (): Sent => ({
        x_RD: indexSelect(x_TD, 0, token_R),
        gates_R: byRow(places_TA, cast(gates_TA, this.#gatesDtype)),
      });
      const turn = this.#turns.get(layer) ?? 0;
      const wish: Wish = isRecorded()
        ? { kind: "record", layer, slot, turn, counts }
        : { kind: "value", layer, counts };
      if (wish.kind === "record") this.#turns.set(layer, turn + 1);
      const [y_RD] = this.#until(wish, sent);
      of = this.#round;
      return { output: sumsOfRows(places_TA, y_RD), saved: [token_R, detach(places_TA)] };
    };
    const gradient = (dy_TD: Tensor, _output: Tensor, [token_R, places]: Tensor[]): Tensor[] => {
      const sent = (): Sent => ({ x_RD: indexSelect(dy_TD, 0, token_R), gates_R: null });
      const [dx_RD, dGates_R] = this.#until({ kind: "gradient", slot, of }, sent);
      return [sumsOfRows(places, dx_RD), cast(byChoice(places, dGates_R), dtype(gates_TA))];
    };
    return customFunction([x_TD, gates_TA], forward, gradient);
  }

  close(): void {
    for (const { graph } of this.#recorded.values()) if (graph !== null) freeGraph(graph);
    this.#recorded.clear();
  }

  /** Makes rounds until this rank's wish is among those of one; what came back, in the order of what was sent. For the caller's scope. */
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
    if (wish.kind === "gradient") return this.#back(wish.of, own);
    assert(wish.kind === "value" || wish.kind === "record", "nothing is wished for");
    const { rank } = this.#options.ranks;
    const rows = this.#options.rowsOf(wish.layer);
    assert(rows !== null, `layer ${wish.layer} has no experts`);
    const countsOf = (from: number, to: number): readonly number[] => {
      const said = wishes[from];
      const { first, count } = rows[to];
      if (!round.ranks.includes(from) || !("counts" in said)) return new Array<number>(count).fill(0);
      return said.counts.slice(first, first + count);
    };
    const arrived = this.#all.map((from) => countsOf(from, rank));
    const sent = this.#all.map((to) => sum(countsOf(rank, to)));
    const received = arrived.map(sum);
    const travel = (of: Tensor | null, columns: number, type: DType): Tensor =>
      this.#exchange(of ?? this.#none(columns, type), this.#all, sent, received);
    const { width, computeDtype } = this.#options;
    const x_RD = travel(own?.x_RD ?? null, width, computeDtype);
    const gates_R1 = travel(own?.gates_R ? unsqueeze(own.gates_R, 1) : null, 1, this.#gatesDtype);
    const graph = this.#compute(wish, { x_RD, gates_R1, arrived });
    if (wish.kind === "record")
      this.#recorded.set(this.#round, { slot: wish.slot, ranks: round.ranks, sent, received, graph: graph.kept });
    return [this.#exchange(graph.y_RD, this.#all, received, sent)];
  }

  #compute(
    { kind, layer }: Wish & { layer: number },
    { x_RD, gates_R1, arrived }: { x_RD: Tensor; gates_R1: Tensor; arrived: readonly (readonly number[])[] },
  ): { y_RD: Tensor; kept: Graph | null } {
    const { device } = this.#options;
    const counts = totals(arrived);
    if (sum(counts) === 0) return { y_RD: x_RD, kept: null };
    const counts_E = empty([counts.length], "int64");
    writeBytes(counts_E, 0, new Uint8Array(BigInt64Array.from(counts, BigInt).buffer));
    const chosen = { places_TA: placesOfArrived(arrived, device), counts_E, known_E: counts_E };
    const experts = this.#expertsOf(layer);
    const output = (x: Tensor, gates_TA: Tensor): Tensor => expertsOutput(x, { ...chosen, gates_TA }, experts);
    if (kind === "value") return { y_RD: output(x_RD, gates_R1), kept: null };
    const kept = record([x_RD, gates_R1], output);
    return { y_RD: detach(kept.y), kept };
  }

  /** Gradients of the rows that a round had, and of their gates. */
  #back(of: number, own: Sent | null): Tensor[] {
    const { sent, received, graph } = this.#at(of);
    const { width, computeDtype } = this.#options;
    this.#recorded.delete(of);
    const dy_RD = this.#exchange(own?.x_RD ?? this.#none(width, computeDtype), this.#all, sent, received);
    const none = (): Tensor[] => [dy_RD, this.#none(1, this.#gatesDtype)];
    const [dx_RD, dGates_R1] = graph === null ? none() : backwardThrough(graph, dy_RD);
    assert(dx_RD !== null && dGates_R1 !== null, "experts do not depend on their rows");
    const [dxBack_RD, dGatesBack_R1] = [dx_RD, dGates_R1].map((each) =>
      this.#exchange(each, this.#all, received, sent),
    );
    return [dxBack_RD, reshape(dGatesBack_R1, [-1])];
  }

  /** Biases are whole everywhere: those of this rank's experts. */
  #expertsOf(layer: number): Experts {
    const { ranks, rowsOf } = this.#options;
    assert(this.#open !== null, "rows arrive between blocks");
    const experts = this.#open(layer);
    const { first, count } = (rowsOf(layer) as readonly Rows[])[ranks.rank];
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

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
