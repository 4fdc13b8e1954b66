// Tensors without elements: sizes, strides, a dtype, and a storage that counts as long as something holds it. Whoever
// makes or gets one holds it, until `drop`. The nodes of a graph are here, too, because nodes and tensors hold each
// other; gradients.ts explains the graph.
import { isCpu } from "../device-name.js";
import { DTYPES, type DType } from "../types.js";
import { type Account, accountOf } from "./account.js";
import { countOf, isContiguous, rowMajor } from "./shapes.js";

/** The number of rounds for which the running round stands, including the loops around it. */
let represented = 1;

/**
 * Runs `fn` as one of `count` rounds that are alike: what it makes counts once until it ends, and `count` times
 * afterwards.
 */
export function representing<Result>(count: number, fn: () => Result): Result {
  const before = represented;
  represented = before * count;
  try {
    return fn();
  } finally {
    represented = before;
  }
}

/** libtorch's caching allocator on CUDA gives whole multiples of this. */
const CUDA_UNIT = 512;

export class Storage {
  holders = 0;
  /** The values that are read from it, if the engine has to know them; else zeros. */
  elements: number[] | null = null;
  /** The number of rounds for which it was made. */
  readonly #stands = represented;

  constructor(
    readonly bytes: number,
    readonly device: string,
    readonly account: Account,
  ) {
    if (bytes > 0) account.change(bytes);
  }

  /** How many storages it counts as in the present round: one inside the rounds that made it, many outside. */
  get copies(): number {
    return Math.max(1, this.#stands / represented);
  }

  release(): void {
    this.holders--;
    if (this.holders === 0 && this.bytes > 0) this.account.change(-this.bytes * this.copies);
  }
}

export class Value {
  holders = 1;
  requiresGrad = false;
  /** The node that made it, if a graph was recorded; `result` says which of its results it is. */
  node: Node | null = null;
  result = 0;
  grad: Value | null = null;
  /** For a leaf: the node that adds to its gradient. */
  accumulator: Node | null = null;

  constructor(
    public storage: Storage,
    public sizes: readonly number[],
    public strides: readonly number[],
    readonly dtype: DType,
  ) {
    storage.holders++;
  }

  /** Replaces its storage and sizes with another's. */
  takeStorage({ storage, sizes, strides }: Value): void {
    storage.holders++;
    this.storage.release();
    Object.assign(this, { storage, sizes, strides });
  }

  get device(): string {
    return this.storage.device;
  }
  get count(): number {
    return countOf(this.sizes);
  }
  get bytes(): number {
    return this.count * DTYPES[this.dtype];
  }
  get copies(): number {
    return this.storage.copies;
  }
  get contiguous(): boolean {
    return isContiguous(this.sizes, this.strides);
  }
}

export interface Edge {
  node: Node;
  /** Which result of the node. */
  result: number;
}

/** The gradients of a node's inputs from that of its result (or results); the caller drops each. */
export type Gradient = (dy: Value, needed: readonly boolean[], saved: readonly Value[]) => (Value | null)[];

let sequence = 0;

export class Node {
  holders = 0;
  readonly order: number;

  constructor(
    readonly edges: (Edge | null)[],
    /** What gradients must look like: the inputs' sizes and dtypes. */
    readonly inputs: readonly { sizes: readonly number[]; dtype: DType }[],
    /** Held by the node. */
    public saved: Value[],
    readonly gradient: Gradient,
    /** The leaf whose gradient this node adds to. */
    readonly leaf: Value | null = null,
  ) {
    for (const edge of edges) if (edge !== null) edge.node.holders++;
    this.order = leaf === null ? sequence++ : Number.POSITIVE_INFINITY;
    if (leaf !== null) hold(leaf);
  }

  forget(): void {
    for (const value of this.saved) drop(value);
    this.saved = [];
  }

  release(): void {
    this.holders--;
    if (this.holders > 0) return;
    this.forget();
    for (const edge of this.edges) edge?.node.release();
    if (this.leaf !== null) {
      this.leaf.accumulator = null;
      drop(this.leaf);
    }
  }
}

export function make(
  sizes: readonly number[],
  dtype: DType,
  device: string,
  strides: readonly number[] = rowMajor(sizes),
): Value {
  const bytes = countOf(sizes) * DTYPES[dtype];
  const given = isCpu(device) ? bytes : Math.ceil(bytes / CUDA_UNIT) * CUDA_UNIT;
  return new Value(new Storage(given, device, accountOf(device)), sizes, strides, dtype);
}

/** Another tensor on the same storage. */
export const viewOf = (of: Value, sizes: readonly number[], strides: readonly number[], dtype = of.dtype): Value =>
  new Value(of.storage, sizes, strides, dtype);

export function hold(value: Value): Value {
  value.holders++;
  return value;
}

export function drop(value: Value | null): void {
  if (value === null) return;
  value.holders--;
  if (value.holders > 0) return;
  value.storage.release();
  value.node?.release();
  value.node = null;
  drop(value.grad);
  value.grad = null;
}
