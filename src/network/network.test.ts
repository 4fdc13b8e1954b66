// Which adapters a branch runs through where each stream has its own: attention reads the first stream and adds to it, feed-forward
// reads the first and adds to the second (RevFFN, arXiv 2512.20920).
import assert from "node:assert/strict";
import { test } from "node:test";

import { readArchitecture } from "../families/registry.js";
import { TINY_QWEN2_MOE } from "../families/testing-config.js";
import { freeContext, makeContext } from "../model/context.js";
import { freeModel, randomModel } from "../model/model.js";
import { freshRouting } from "../model/routing.js";
import { deviceStore } from "../store/device.js";
import { fill_, normal_ } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { toArray, zeros } from "../torch/tensor.js";
import { extensionOf, networkParts, type NetworkDescription } from "./description.js";
import { OpenUnit } from "./network.js";

const STREAMS: NetworkDescription = { coupling: "revffn", adapters: "stream", stream: "float32" };
const ADAPTERS = ["up_1", "up_2", "down_1", "down_2"];
const USED = { attention: ["up_1", "down_1"], feedForward: ["up_1", "down_2"] };

for (const branch of ["attention", "feedForward"] as const) {
  test(`${branch} runs through ${USED[branch].join(" and ")}`, () => {
    for (const zeroed of ADAPTERS) {
      const architecture = extensionOf(STREAMS, "random")(readArchitecture(TINY_QWEN2_MOE, "tiny"));
      const model = randomModel(architecture, 5, "float32", "cpu");
      fill_(model.blocks[0][`adapters.${zeroed}.weight`], 0);
      const network = {
        model,
        ...networkParts(STREAMS),
        computeDtype: "float32",
        device: "cpu",
        store: deviceStore("cpu"),
        lossTileTokens: 16,
      } as const;
      const context = makeContext(architecture, [0, 1, 2], [3], {
        computeDtype: "float32",
        device: "cpu",
        routing: freshRouting,
      });
      const unit = new OpenUnit(network, [0]);
      const isZero = scope(() => {
        const h_TH = normal_(zeros([3, architecture.hiddenSize / 2], "float32"), 0, 1);
        return toArray(unit.stages(branch)[0].evaluate(h_TH, context, 0, h_TH)).every((value) => value === 0);
      });
      // Of attention, keys and values come through up_2, and zeros there make values of zero.
      const silent = branch === "attention" ? [...USED.attention.slice(1), "up_2"] : USED.feedForward;
      assert.equal(isZero, silent.includes(zeroed), zeroed);
      unit.close();
      freeContext(context);
      freeModel(model);
    }
  });
}
