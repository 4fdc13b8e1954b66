// The filters that select items of a list by a test, as in jinja2.
import { holds } from "./tests.js";
import { hasKeys, isTrue, itemsOf, listOf, str, UNDEFINED, type Value } from "./values.js";

/** The filters select, reject, selectattr and rejectattr. */
export function select(operand: Value, wanted: boolean, byAttribute: boolean, args: Value[]): Value {
  const [attribute, test, other] = byAttribute ? args : [undefined, ...args];
  const passes = (item: Value): boolean => {
    let value = item;
    if (attribute !== undefined)
      for (const key of str(attribute).split("."))
        value = (hasKeys(value) ? value.value.get(key) : undefined) ?? UNDEFINED;
    if (test === undefined) return isTrue(value);
    const found = holds(str(test), value, other);
    if (found === undefined) throw new Error(`there is no test named ${str(test)}`);
    return found;
  };
  return listOf((isTrue(operand) ? itemsOf(operand) : []).filter((item) => passes(item) === wanted));
}
