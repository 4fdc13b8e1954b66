// The order in which a step needs the parts of a network: up in the forward pass, down in the backward pass. The part
// that is in use tells the next one.

export class PartOrder {
  readonly #order: number[];
  #index = -1;
  #direction = 1;

  constructor(order: number[]) {
    this.#order = order;
  }

  /** Goes to a part; returns the next part that is `wanted`, if there is one. */
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

  /**
   * Whether a part needs its state: on the way down every part is updated. Both ends are entered only then, or in
   * evaluation.
   */
  isUpdated(part: number): boolean {
    return this.#direction < 0 || part === this.#order[0] || part === this.#order[this.#order.length - 1];
  }
}
