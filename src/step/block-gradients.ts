// The gradients of a step that exist at a moment: one block's, made of zeros, or of rows of its experts from which theirs are made by groups.
// Owns every gradient and all rows until they are freed, or `close`; counts the most bytes that were alive at once.
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
  /** Of parameters that stay, the gradient is made where they are held, whole. */
  traveling?: { stays(name: string): boolean };
}

/** A block's gradient on its way: whole tensors, and rows in place of those of its experts. */
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

  /** `expertGroupSize`: experts of a block whose gradients exist at a time; 0: all. */
  constructor(place: UpdatePlace, expertGroupSize: number) {
    this.#place = place;
    this.#expertGroupSize = expertGroupSize;
  }

  /** Of zeros, or of anything for those that are written first. */
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

  /** A place for rows of a block's experts, where it has such and their gradients are made by groups. */
  makeRows(parameters: Parameters): ExpertRows | null {
    if (!Object.keys(parameters).some((name) => this.inGroups(name))) return null;
    const rows = new ExpertRows();
    this.#rows.add(rows);
    return rows;
  }

  /** Whether a gradient is made of rows, some experts' at a time. */
  inGroups(name: string): boolean {
    return this.#expertGroupSize > 0 && (Object.values(EXPERT_MATRICES) as string[]).includes(name);
  }

  /** Whether the backward pass of a block writes a gradient before anything is added to it: of others, this rank writes its own experts' alone. */
  isWrittenFirst(name: string): boolean {
    return EXPERT_PARAMETERS.includes(name) && (this.#place.traveling === undefined || this.#stays(name));
  }

  /** Those that ranks add up. */
  summed(gradients: Parameters): Parameters {
    return Object.fromEntries(Object.entries(gradients).filter(([name]) => !this.#stays(name)));
  }

  /** Makes the gradients of experts from rows, group by group; `work` may keep none. */
  forExperts(rows: ExpertRows | null, parameters: Parameters, work: ExpertWork): void {
    during("gradient", () =>
      rows?.forGroups(parameters, this.#expertGroupSize, (name, first, gradient) => {
        this.#note(byteSize(gradient));
        work(name, first, gradient);
      }),
    );
  }

  /** Frees those in `names`, and the rows. */
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
