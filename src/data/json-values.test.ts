// Numbers and the order of keys as a text has them, and that all else is as JSON.parse reads it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JsonFloat, orderedKeys, parseJsonRow } from "./json-values.js";

test("integers beyond 2^53 are bigints, whole floats say so, all others are numbers", () => {
  const read = (text: string): unknown => (parseJsonRow(`{"a": [${text}]}`) as { a: unknown[] }).a[0];
  for (const text of ["9007199254740993", "-9007199254740993", "123456789012345678901234567890"])
    assert.equal(read(text), BigInt(text));
  for (const text of [
    "10.0",
    "1e3",
    "-0.0",
    "1E+2",
    "1e400",
    "0.99999999999999999999",
    "2.50e1",
    "123456789012345678.5",
  ]) {
    const value = read(text);
    assert(value instanceof JsonFloat, text);
    assert.equal(Number(value), Number(text));
  }
  for (const text of ["10", "-3", "0", "10.5", "1.05", "9007199254740991", "1e-7", "12.0001", "0.12345678901234567"])
    assert.equal(read(text), Number(text));
});

test("keys are known in the order of the text, also behind a spread, and values are read as ever", () => {
  const value = parseJsonRow('{"price": 1, "2": "b", "1": {"10": [0], "x": 1, "9": null}, "\\u0030": 2, "2": "c"}') as {
    price: number;
    "1": object;
    "2": string;
  };
  assert.deepEqual(orderedKeys(value), ["price", "2", "1", "0"]);
  assert.deepEqual(orderedKeys(value["1"]), ["10", "x", "9"]);
  assert.equal(value.price, 1);
  assert.equal(value["2"], "c");
  const { price: _, ...rest } = { ...value, more: 1 };
  assert.deepEqual(orderedKeys(rest), ["2", "1", "0", "more"]);
  assert.deepEqual(orderedKeys({ b: 1, a: 2 }), ["b", "a"]);
  const proto = parseJsonRow('{"__proto__": 1, "3": 10.0}') as object;
  assert.deepEqual(orderedKeys(proto), ["__proto__", "3"]);
  assert.equal(Object.getPrototypeOf(proto), Object.prototype);
});

test("strings stay what they are, whatever they hold", () => {
  const strings = [
    'say "1": 10.0, 1e5',
    "\uFDD3n10.0",
    "\uFDD3",
    "\\",
    'a\\"1": 2',
    "12345678901234567890",
    ", 10.0 ]",
  ];
  const value = { strings, "\uFDD3s1": 1, x: 1 };
  const text = JSON.stringify(value).replace('"x":1', '"x":1.0');
  const { x, ...rest } = parseJsonRow(text) as { x: unknown };
  assert(x instanceof JsonFloat);
  assert.deepEqual((rest as { strings: string[] }).strings, strings);
  assert.equal((rest as Record<string, unknown>)["\uFDD3s1"], 1);
});

test("what is no JSON is refused as JSON.parse does; what nests too deep, too", () => {
  for (const text of ['{"a": 01.0}', '{"1": }', '{"a": 1e}', "[1.0, 2", '{"a": NaN}'])
    assert.throws(() => parseJsonRow(text), SyntaxError);
  const deep = 200_000;
  assert.throws(() => parseJsonRow(`${"[".repeat(deep)}1.0${"]".repeat(deep)}`), SyntaxError);
});
