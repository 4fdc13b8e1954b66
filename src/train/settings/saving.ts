// What several settings together say of the checkpoints of a run.
import type { TrainSettings } from "./rows.js";

/** Whether a run saves checkpoints by itself. */
export const savesAtAll = ({
  save_strategy,
  save_steps,
}: Pick<TrainSettings, "save_strategy" | "save_steps">): boolean =>
  save_strategy === "epoch" || (save_strategy === "steps" && save_steps > 0);
