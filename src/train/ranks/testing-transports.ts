// For tests of how tensors travel between ranks: a run of every layout, whose bits must not depend on it.
import type { TestContext } from "node:test";

import type { TrainSettings } from "../settings/settings.js";
import { makeWorkplace, settingsFor } from "../testing-run.js";

const ROUTER = { router_aux_loss_coef: 0.05, router_z_loss_coef: 0.01 };

/** Of so many ranks; groups for long rows are of two, which three do not make. */
export function makeTransportCases(t: TestContext, world: number): { name: string; settings: TrainSettings }[] {
  const [place, tied] = [makeWorkplace(t), makeWorkplace(t, "hf-tied")];
  const clipped = { max_grad_norm: 0.5, ...ROUTER };
  const held = { validation_rows: 2, eval_steps: 2, per_device_eval_batch_size: 1 };
  const sharded = { parameters: "sharded", optimizer: "adamw8bit", ...held, ...clipped } as const;
  const cases: [string, Partial<TrainSettings>, at?: typeof tied][] = [
    ["replicas", { ...clipped, ...held }],
    ["tied", clipped, tied],
    ["direct", { ...clipped, rank_sums: "direct" }],
    ["tied direct", { ...clipped, rank_sums: "direct" }, tied],
    ["shares", { ...sharded, blocks_per_step: 2 }],
    ["direct shares", { ...sharded, rank_sums: "direct" }],
    ["rows", { ...sharded, rank_sums: "direct", share_experts: "rows" }],
  ];
  if (world === 2)
    cases.push(
      ["long rows", { ...sharded, sequence_ranks: 2, rank_sums: "direct" }],
      ["files", { ...sharded, rank_sums: "direct", parameters: "sharded-disk" }],
    );
  return cases.map(([name, changes, at = place]) => ({
    name,
    settings: settingsFor(at, { max_steps: 3, ...changes }),
  }));
}
