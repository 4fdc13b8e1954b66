// The variable `loop` of a {% for %}, as in jinja2.
import { boolOf, callableOf, integerOf, UNDEFINED, type Value } from "./values.js";

/** Facts of a loop, made when they are asked for; most loops ask for few. */
export class Loop extends Map<string, Value> {
  constructor(
    private readonly items: Value[],
    private readonly i: number,
  ) {
    super();
  }

  override get(name: string): Value | undefined {
    const { items, i } = this;
    switch (name) {
      case "index":
        return integerOf(i + 1);
      case "index0":
        return integerOf(i);
      case "revindex":
        return integerOf(items.length - i);
      case "revindex0":
        return integerOf(items.length - i - 1);
      case "first":
        return boolOf(i === 0);
      case "last":
        return boolOf(i === items.length - 1);
      case "length":
        return integerOf(items.length);
      case "previtem":
        return items[i - 1] ?? UNDEFINED;
      case "nextitem":
        return items[i + 1] ?? UNDEFINED;
      case "cycle":
        return callableOf((args) => args[i % args.length]);
    }
    return undefined;
  }
}
