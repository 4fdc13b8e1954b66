// The order in which a step needs the parts of a network: up in the forward pass, down in the backward pass. From the part at
// hand follows the one that will be next.

export class PartOrder {
  readonly #order: number[];
  #index = -1;
  #direction = 1;

  constructor(order: number[]) {
    this.#order = order;
  }

  /** Goes to a part; returns the part behind it, if there is one; of those that are `wanted`, if not all are. */
  enter(part: number, wanted: (part: number) => boolean = () => true): number | undefined {
    const index = this.#order.indexOf(part);
    if (index !== this.#index) this.#direction = index > this.#index ? 1 : -1;
    if (index === 0) this.#direction = 1;
    if (index === this.#order.length - 1) this.#direction = -1;
    this.#index = index;
    let next = index + this.#direction;
    while (next in this.#order && !wanted(this.#order[next])) next += this.#direction;
    return this.#order[next];
  }

  /** The part that was entered last. */
  get current(): number {
    return this.#order[this.#index];
  }

  /** Whether a part needs its state: on the way down parts are updated, and both ends are entered then, or to evaluate. */
  isUpdated(part: number): boolean {
    return this.#direction < 0 || part === this.#order[0] || part === this.#order[this.#order.length - 1];
  }
}
