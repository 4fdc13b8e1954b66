// Latent attention by both of its ways, in float64: each head's own keys and values, and, with a cache, latents alone; documents of a
// pack do not see one another.
import assert from "node:assert/strict";
import { test } from "node:test";

import { type LayerCache, makeContext } from "../../model/context.js";
import { freshRouting } from "../../model/routing.js";
import { OpenWeights } from "../../model/weights.js";
import { setSeed } from "../../torch/random.js";
import { cat, narrow, normal_ } from "../../torch/ops.js";
import { keep, scope } from "../../torch/scope.js";
import { shape, type Tensor, toArray, zeros } from "../../torch/tensor.js";
import { type LatentAttention, latentAttention } from "./latent.js";

const SETTINGS: LatentAttention = {
  ...{ hiddenSize: 9, numHeads: 3, normEpsilon: 1e-5, queryRank: 5, keyValueRank: 7, bias: true, rotary: 0 },
  ...{ plainWidth: 4, turningWidth: 2, valueWidth: 5, scale: 0.37 },
};
const ROTARY = { theta: 100, scaling: { type: "default" }, width: 2, neighbours: true } as const;
const TOKENS = 11;

/** Keeps all rows of one layer; the test ends before they are freed. */
class Rows implements LayerCache {
  readonly kept = new Map<string, Tensor>();

  extend<Name extends string>(_layer: number, rows: Record<Name, Tensor>): Record<Name, Tensor> {
    for (const [name, added] of Object.entries<Tensor>(rows)) {
      const before = this.kept.get(name);
      this.kept.set(name, keep(before === undefined ? cat([added], 0) : cat([before, added], 0)));
    }
    return Object.fromEntries(this.kept) as Record<Name, Tensor>;
  }
}

for (const changes of [{}, { queryRank: null, bias: false }, { valueWidth: 8 }, { numHeads: 1, keyValueRank: 2 }]) {
  test(`latents alone give what keys and values of each head give: ${JSON.stringify(changes)}`, () =>
    scope(() => {
      setSeed(5);
      const settings = { ...SETTINGS, ...changes };
      const branch = latentAttention(0, settings);
      const random = (size: number[]): Tensor => normal_(zeros(size, "float64"), 0, 1);
      const values = new Map(branch.parameters.map(({ name, shape: size }) => [name, random(size)]));
      const weights = new OpenWeights(
        (name) => values.get(name) as Tensor,
        branch.parameters,
        "float64",
        () => false,
      );
      const x_TD = random([TOKENS, settings.hiddenSize]);
      const options = { computeDtype: "float64", device: "cpu", routing: freshRouting } as const;
      const positions = Array.from({ length: TOKENS }, (_, i) => i);
      const whole_TD = branch.evaluate(weights, x_TD, makeContext({ rotary: [ROTARY] }, positions, [TOKENS], options));
      const whole = toArray(whole_TD);
      assert.ok(Math.max(...whole.map(Math.abs)) > 0.1);

      const pair = [...positions.slice(0, 4), ...positions.slice(0, 7)];
      const packed = toArray(branch.evaluate(weights, x_TD, makeContext({ rotary: [ROTARY] }, pair, [4, 7], options)));
      for (const [first, length] of [
        [0, 4],
        [4, 7],
      ]) {
        const alone = makeContext({ rotary: [ROTARY] }, positions.slice(0, length), [length], options);
        const expected = toArray(branch.evaluate(weights, narrow(x_TD, 0, first, length), alone));
        const found = packed.slice(first * settings.hiddenSize, (first + length) * settings.hiddenSize);
        found.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-12, `document of ${length}, ${i}`));
      }

      const cache = new Rows();
      let read = 0;
      for (const length of [4, 1, 1, 5]) {
        const at = positions.slice(read, read + length);
        const context = makeContext({ rotary: [ROTARY] }, at, [length], { ...options, cache, length: read + length });
        const piece = toArray(branch.evaluate(weights, narrow(x_TD, 0, read, length), context));
        for (const [i, value] of piece.entries()) {
          const expected = whole[read * settings.hiddenSize + i];
          assert.ok(Math.abs(value - expected) < 1e-12, `token ${read}, ${i}: ${value}, not ${expected}`);
        }
        read += length;
      }
      const numbers = [...cache.kept.values()].map((rows) => shape(rows).reduce((product, size) => product * size, 1));
      assert.deepEqual(numbers, [TOKENS * (settings.keyValueRank + settings.turningWidth)]);
      weights.close();
    }));
}
