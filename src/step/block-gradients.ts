// The gradients of a step that exist at one moment: a block's, as tensors of zeros; where its experts' gradients are
// made group by group, rows from which they are made. Owns all gradients and rows until they are freed, or `close`;
// counts the peak of bytes.
import { EXPERT_MATRICES, EXPERT_PARAMETERS, ExpertRows } from "../model/expert-rows.js";
import type { Parameters } from "../model/model.js";
import { makeGradients } from "../model/weights.js";
import type { ParameterStore } from "../store/store.js";
import { free } from "../torch/scope.js";
import { during } from "../torch/span.js";
import { byteSize, shape, type Tensor } from "../torch/tensor.js";

/** Where gradients are made and updates happen. */
export interface UpdatePlace {
  device: string;
  store: ParameterStore;
  /** Says which parameters stay with the rank that holds them; such a gradient is made there, whole. */
  traveling?: { stays(name: string): boolean };
}

/** A block's gradient on its way: whole tensors; for experts in groups, rows instead. */
export interface BlockGradients {
  whole: Parameters;
  rows: ExpertRows | null;
}

type ExpertWork = (name: string, firstExpert: number, gradient: Tensor) => void;

const bytesOf = (tensors: Tensor[]): number => tensors.reduce((sum, tensor) => sum + byteSize(tensor), 0);

export class LiveGradients {
  readonly #place: UpdatePlace;
  readonly #expertGroupSize: number;
  readonly #whole = new Set<Parameters>();
  readonly #rows = new Set<ExpertRows>();
  peakBytes = 0;

  /** `expertGroupSize`: how many experts of a block have gradients at the same time; 0: all. */
  constructor(place: UpdatePlace, expertGroupSize: number) {
    this.#place = place;
    this.#expertGroupSize = expertGroupSize;
  }

  /** Makes gradients of zeros; those that `isUnfilled` names may hold anything, since they are written first. */
  make(parameters: Parameters, isUnfilled?: (name: string) => boolean): Parameters {
    const { device, store } = this.#place;
    const own = new Set(Object.entries(parameters).flatMap(([name, stored]) => (this.#stays(name) ? [stored] : [])));
    const shapeOf = (stored: Tensor): number[] =>
      own.has(stored) ? shape(stored) : (store.sharing?.shapeOf ?? shape)(stored);
    const gradients = during("gradient", () => makeGradients(parameters, device, isUnfilled, shapeOf));
    this.#whole.add(gradients);
    this.#note();
    return gradients;
  }

  /** Makes a place for rows, if the block has experts whose gradients are made group by group; else null. */
  makeRows(parameters: Parameters): ExpertRows | null {
    if (!Object.keys(parameters).some((name) => this.inGroups(name))) return null;
    const rows = new ExpertRows();
    this.#rows.add(rows);
    return rows;
  }

  /** Whether a gradient is made of rows, for a group of experts at a time. */
  inGroups(name: string): boolean {
    return this.#expertGroupSize > 0 && (Object.values(EXPERT_MATRICES) as string[]).includes(name);
  }

  /**
   * Whether a block's backward pass writes this gradient before anything is added to it. Where rows travel between
   * ranks, a rank writes only its own experts' part of a gradient that does not stay.
   */
  isWrittenFirst(name: string): boolean {
    return EXPERT_PARAMETERS.includes(name) && (this.#place.traveling === undefined || this.#stays(name));
  }

  /** The gradients that ranks add up. */
  summed(gradients: Parameters): Parameters {
    return Object.fromEntries(Object.entries(gradients).filter(([name]) => !this.#stays(name)));
  }

  /** Makes the gradients of experts from rows, group by group. `work` must not keep them: each is freed after it. */
  forExperts(rows: ExpertRows | null, parameters: Parameters, work: ExpertWork): void {
    during("gradient", () =>
      rows?.forGroups(parameters, this.#expertGroupSize, (name, first, gradient) => {
        this.#note(byteSize(gradient));
        work(name, first, gradient);
      }),
    );
  }

  /** Frees the whole gradients in `names`, and all rows. */
  free({ whole, rows }: BlockGradients, names: readonly string[]): void {
    for (const name of names) {
      free(whole[name]);
      delete whole[name];
    }
    if (Object.keys(whole).length === 0) this.#whole.delete(whole);
    if (rows === null) return;
    rows.free();
    this.#rows.delete(rows);
  }

  close(): void {
    for (const gradients of this.#whole) free(...Object.values(gradients));
    for (const rows of this.#rows) rows.free();
    this.#whole.clear();
    this.#rows.clear();
  }

  #stays(name: string): boolean {
    return this.#place.traveling?.stays(name) ?? false;
  }

  #note(more = 0): void {
    const gradients = [...this.#whole].flatMap((each) => Object.values(each));
    const bytes = [...this.#rows].reduce((sum, rows) => sum + rows.bytes, bytesOf(gradients) + more);
    this.peakBytes = Math.max(this.peakBytes, bytes);
  }
}
