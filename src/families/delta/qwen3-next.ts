// The family of Qwen3-Next-80B-A3B and Qwen3-Coder-Next (model_type "qwen3_next"), see decoder.ts: projections of linear layers lie
// grouped by key head, dense layers as in qwen3_moe. Agrees with modeling_qwen3_next.py of transformers.
import { groupedProjections } from "../../layers/attention/delta-projections.js";
import { softmaxRouter } from "../../layers/experts/router.js";
import { decoder } from "../decoder.js";
import { causalClasses, type Family } from "../family.js";
import { routedBySteps } from "../geometry.js";
import { readDeltaDecoder } from "./decoder.js";

export const qwen3Next: Family = {
  modelType: "qwen3_next",
  classes: causalClasses("Qwen3Next"),
  read: (read) =>
    decoder(read, {
      ...readDeltaDecoder(read, {
        expertsPerToken: 10,
        projections: groupedProjections,
        router: softmaxRouter(read.boolean("norm_topk_prob", true)),
        routed: (geometry) => routedBySteps(read, geometry),
      }),
      passThrough: /^mtp\./,
    }),
};
