// Every row of the operator table against libtorch's own words, and every kind of argument through the boundary.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { native } from "../binding.js";
import * as ops from "../ops.js";
import { scope } from "../scope.js";
import { onShadow } from "../shadow.js";
import { dtype, fromArray, shape, toArray, zeros } from "../tensor.js";

const plain = (schema: string): string => schema.replaceAll("SymInt", "int");

/** Without the arguments that later versions have behind those of the row, all with a default. */
function withoutLater(actual: string, row: string): string {
  const own = row.slice(0, row.indexOf(") -> "));
  const [, later = "", result] = /^((?:, [^=]+=[^,)]+)*)(\) -> .*)$/.exec(actual.slice(own.length)) ?? [];
  return later !== "" && actual.startsWith(own) ? own + result : actual;
}

test("every row has libtorch's own schema; newer operators where they exist", () => {
  for (const { name, schema, newer } of ops.rows.values()) {
    const actual = native.schema(name);
    if (actual === null && newer) continue;
    assert.equal(withoutLater(plain(actual ?? `missing: ${name}`), newer ? schema : ""), schema);
  }
});

test("an operator is called through its row alone, and so has a rule for memory", () => {
  const sources = fileURLToPath(new URL("../../../src/", import.meta.url));
  const files = readdirSync(sources, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const calling = files.filter((file) => /\bnative\.op\(/.test(readFileSync(join(sources, file), "utf8")));
  assert.deepEqual(calling, ["torch/ops/row.ts"]);
  for (const { name, rule } of ops.rows.values()) assert.equal(typeof rule, "function", name);
  const folder = join(sources, "torch/ops");
  const withRows = readdirSync(folder).filter((file) =>
    /= (newerO|o)p</.test(readFileSync(join(folder, file), "utf8")),
  );
  const index = readFileSync(join(sources, "torch/ops.ts"), "utf8");
  for (const file of withRows)
    assert.ok(index.includes(`"./ops/${file.replace(".ts", ".js")}"`), `ops.ts lacks ${file}`);
});

test("an operator that no plan runs ends a plan that does", () => {
  assert.throws(
    () => onShadow(() => scope(() => ops.isNan(zeros([2], "float32")))),
    /no plan runs \(it reads weights\)/,
  );
});

test("arguments of every kind are converted", () => {
  scope(() => {
    const a = fromArray([1, 2, 3, 4, 5, 6], [2, 3], "float32");
    assert.deepEqual(toArray(ops.sumDim(a, [1], false)), [6, 15]);
    assert.deepEqual(toArray(ops.cat([a, a], 0)), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(toArray(ops.add(a, a, 0.5)), [1.5, 3, 4.5, 6, 7.5, 9]);
    assert.equal(dtype(ops.cast(a, "bfloat16")), "bfloat16");
    assert.deepEqual(ops.unbind(a).map(toArray), [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    assert.deepEqual(shape(ops.linear(a, a, null)), [2, 2]);
    assert.equal(ops.equal(a, a), true);
    const integers = fromArray([-5, 6], [2], "int32");
    assert.equal(dtype(ops.mulScalar(integers, 3)), "int32");
    assert.equal(dtype(ops.mulScalar(integers, 0.5)), "float32");
    assert.deepEqual(toArray(ops.shiftRight(integers, 1)), [-3, 3]);
    assert.equal(ops.add_(a, a), a, "an in-place operator returns its own handle");
  });
});

test("what libtorch refuses arrives with the operator, the dtypes and the shapes", () => {
  scope(() => {
    const a = fromArray([1, 2, 3, 4, 5, 6], [2, 3], "float32");
    assert.throws(() => ops.mm(a, a), /^Error: aten::mm\(float32\[2,3\], float32\[2,3\]\): .*cannot be multiplied/);
    assert.throws(() => ops.mm(a, undefined as never), /aten::mm\(.*\): argument "mat2" is missing/);
    assert.throws(() => ops.mm(a, "b" as never), /argument "mat2": expected a tensor/);
    assert.throws(() => ops.narrow(a, 0, 0.5, 1), /argument "start": expected a whole number/);
    assert.throws(() => ops.cast(a, "float31" as never), /unknown dtype "float31"/);
  });
});
