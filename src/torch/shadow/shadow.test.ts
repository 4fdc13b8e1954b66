// The shadow engine knows every operator there is, and where memory comes and goes it agrees with the real one.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backward, leaf, setGrad, withGrad } from "../autograd.js";
import { ledger } from "../memory.js";
import { during } from "../span.js";
import * as ops from "../ops.js";
import { expertsOnRows } from "../ops/testing-rows.js";
import { scope } from "../scope.js";
import { onShadow, shadowSpans } from "../shadow.js";
import { testCourses, type Work } from "./testing-course.js";
import { empty, item, shape, type Tensor, toArray } from "../tensor.js";

const random = (...size: number[]): Tensor => ops.uniform_(empty(size, "float32"), -1, 1);

const WORKS: Record<string, Work> = {
  views: (mark) => {
    const x = random(6, 4, 8);
    mark();
    const turned = ops.transpose(x, 0, 1);
    ops.reshape(turned, [4, 48]); // has to be copied
    mark();
    ops.reshape(ops.narrow(x, 0, 1, 3), [12, 8]); // need not
    ops.contiguous(x);
    mark();
  },
  "mixed types": (mark) => {
    const [x, y] = [random(64, 64), ops.cast(random(64, 64), "bfloat16")];
    ops.add(x, y);
    mark();
    ops.add_(y, x);
    mark();
  },
  "a gated product and its gradients": (mark) => {
    const [x, gate, down] = [leaf(random(32, 16)), leaf(random(24, 16)), leaf(random(16, 24))];
    mark();
    const y = scope(() => withGrad(() => ops.linear(ops.silu(ops.linear(x, gate)), down)));
    mark();
    backward([y], [random(32, 16)]);
    mark();
  },
  "experts, some with a gradient to add to": (mark) => {
    const x = leaf(random(10, 16));
    const [gateUp, down] = [() => leaf(random(24, 16)), () => leaf(random(16, 12))].map((make) => [
      make(),
      make(),
      make(),
    ]);
    for (const weight of [gateUp[0], gateUp[2], down[1]]) setGrad(weight, random(...shape(weight)));
    mark();
    scope(() => void expertsOnRows(x, gateUp, down, [4, 6, 0]));
    mark();
    const y = scope(() => withGrad(() => expertsOnRows(x, gateUp, down, [4, 6, 0])));
    mark();
    backward([y], [random(10, 16)]);
    mark();
  },
  "experts with gradients of another type": (mark) => {
    const leafOf = (...size: number[]): Tensor => leaf(ops.cast(random(...size), "bfloat16"));
    const [x, gateUp, down] = [leafOf(10, 16), [leafOf(24, 16), leafOf(24, 16)], [leafOf(16, 12), leafOf(16, 12)]];
    for (const weight of [...gateUp, ...down]) setGrad(weight, random(...shape(weight)));
    const y = scope(() => withGrad(() => expertsOnRows(x, gateUp, down, [4, 6])));
    mark();
    backward([y], [ops.cast(random(10, 16), "bfloat16")]);
    mark();
  },
  // Small enough that libtorch does not give them to oneDNN, which takes room of its own.
  "experts whose products reach into the rows of neighbours": (mark) => {
    const leafOf = (...size: number[]): Tensor => leaf(ops.cast(random(...size), "bfloat16"));
    const [x, gateUp, down] = [leafOf(40, 8), [0, 1, 2].map(() => leafOf(16, 8)), [0, 1, 2].map(() => leafOf(8, 8))];
    scope(() => void expertsOnRows(x, gateUp, down, [20, 5, 15]));
    mark();
    for (const [i, weight] of [...gateUp, ...down].entries()) {
      setGrad(weight, i % 2 ? ops.cast(random(...shape(weight)), "bfloat16") : random(...shape(weight)));
    }
    for (const rows of [
      [20, 5, 15],
      [12, 0, 28],
    ]) {
      const y = scope(() => withGrad(() => expertsOnRows(x, gateUp, down, rows)));
      mark();
      backward([y], [ops.cast(random(40, 8), "bfloat16")]);
      mark();
    }
  },
  "experts of another type than their rows": (mark) => {
    const leafOf = (...size: number[]): Tensor => leaf(ops.cast(random(...size), "bfloat16"));
    const [x, gateUp, down] = [
      leaf(random(620, 16)),
      [0, 1, 2].map(() => leafOf(24, 16)),
      [0, 1, 2].map(() => leafOf(16, 12)),
    ];
    scope(() => void expertsOnRows(x, gateUp, down, [6, 600, 14]));
    mark();
    // The last has no gradient to add to.
    for (const weight of [...gateUp, ...down].slice(0, 5)) setGrad(weight, random(...shape(weight)));
    for (const rows of [
      [6, 600, 14],
      [310, 300, 10],
    ]) {
      const y = scope(() => withGrad(() => expertsOnRows(x, gateUp, down, rows)));
      mark();
      backward([y], [random(620, 16)]);
      mark();
    }
  },
  "sums, decays and a triangular system": (mark) => {
    const [x, y, z] = [leaf(random(6, 16, 1)), leaf(random(6, 16, 8)), leaf(random(6, 16, 8))];
    const made = scope(() =>
      withGrad(() => {
        const triangle = ops.triu(ops.uniform_(empty([16, 16], "float32"), 0, 1));
        const sums = ops.unsqueeze(ops.mm(ops.reshape(ops.neg(ops.softplus(x)), [6, 16]), triangle), 2);
        const between = ops.exp(ops.sub(sums, ops.transpose(sums, 1, 2)));
        const system = ops.mul(ops.bmm(z, ops.transpose(z, 1, 2)), between);
        return ops.solveTriangular(system, ops.cat([y, ops.mul(y, ops.exp(sums))], 2), false, true, true);
      }),
    );
    mark();
    backward([made], [random(6, 16, 16)]);
    mark();
  },
  "parts one by one, some of them unused": (mark) => {
    const x = leaf(random(5, 4, 8));
    const made = scope(() =>
      withGrad(() => {
        const [a, b, , c] = ops.unbind(x, 0);
        return ops.mul(ops.add(a, b), ops.silu(c));
      }),
    );
    mark();
    backward([made], [random(4, 8)]);
    mark();
  },
  "a softmax that is picked from": (mark) => {
    const x = leaf(ops.cast(random(128, 16), "bfloat16"));
    const [index, y] = scope(() =>
      withGrad(() => {
        const p = ops.softmax(x, -1, "float32");
        const index = ops.topk(p, 2, -1)[1];
        const gates = ops.gather(p, 1, index);
        return [index, ops.div(gates, ops.sumDim(gates, [-1], true))];
      }),
    );
    mark();
    backward([y], [random(128, 2)]);
    mark();
    ops.sortStable(ops.reshape(index, [-1]), true, 0);
    mark();
  },
};

testCourses(WORKS);

test("the shadow engine leaves the real one as it was, also on failure", () => {
  scope(() => {
    const x = random(3, 5);
    const before = ledger();
    assert.throws(
      () =>
        onShadow(() => {
          random(1000, 1000);
          shape(x);
        }),
      /already freed/,
    );
    assert.deepEqual(ledger(), before);
    assert.deepEqual(shape(x), [3, 5]);
  });
});

test("spans are told apart, and an error carries the innermost", () => {
  onShadow(() => {
    during("early", () => scope(() => void random(10)));
    during("late", () => scope(() => void random(100)));
    const spans = shadowSpans("cpu");
    assert.deepEqual([spans.get("early"), spans.get("late")], [40, 400]);
  });
  try {
    during("outer", () =>
      during("inner", () => {
        throw new Error("no");
      }),
    );
    assert.fail();
  } catch (failure) {
    assert.equal((failure as { span?: string }).span, "inner");
  }
});

test("tokens are shared evenly in the shadow", () => {
  onShadow(() =>
    scope(() => {
      assert.deepEqual(toArray(ops.bincount(empty([10], "int64"), null, 4)), [3, 3, 2, 2]);
      assert.equal(item(random()), 1);
    }),
  );
});
