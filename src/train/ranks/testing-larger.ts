// For tests of what ranks hold and send: a model that is large beside a step's tokens.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";

import { readArchitecture } from "../../families/registry.js";
import { makeWorkplace, type Workplace } from "../testing-run.js";

/** Eight blocks of 16 experts, random: large beside what a step takes for its tokens. */
export function makeLargerWorkplace(t: TestContext, changes: Record<string, unknown> = {}): Workplace {
  const place = makeWorkplace(t);
  const path = join(place.model, "config.json");
  const tiny = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  const layers = 8;
  const sizes = {
    ...{ hidden_size: 64, num_hidden_layers: layers, num_experts: 16, moe_intermediate_size: 48, mlp_only_layers: [] },
    ...{ shared_expert_intermediate_size: 64, layer_types: new Array(layers).fill("full_attention"), vocab_size: 512 },
  };
  writeFileSync(path, JSON.stringify({ ...tiny, ...sizes, ...changes }));
  rmSync(join(place.model, "model.safetensors"));
  return place;
}

export const geometryOf = (place: Workplace) => ({
  architecture: readArchitecture(JSON.parse(readFileSync(join(place.model, "config.json"), "utf8")), "config.json"),
  dtypeOf: () => "bfloat16" as const,
});
