// How ranks that share parameters come to use experts of one another: weights are gathered, or rows of tokens go to the rank that holds them. Bytes of
// both follow from the settings and the sizes of experts: weights from the parameters alone, rows from tokens.
import { UserError } from "../../errors.js";
import { formatBytes } from "../../format.js";
import { elementsOf } from "../../optim/optimizer.js";
import { type Architecture, hasExperts, isRouted } from "../../model/architecture.js";
import { isExpertMatrix } from "../../model/expert-rows.js";
import type { PlacedParameter } from "../../model/model.js";
import { STORES } from "../../store/registry.js";
import { fastestDtype } from "../../torch/device.js";
import { DTYPES, type DType } from "../../torch/tensor.js";
import { reachedShare } from "../../network/traveling/reached-share.js";
import type { TrainSettings } from "../settings/settings.js";

type Planned = readonly { placed: PlacedParameter; dtype: DType }[];

/** Bytes of a step, of which a rank of W sends (W - 1) / W in the mean. */
export interface ExpertTraffic {
  /** Of gathered weights and of their gradients. */
  weightBytes: number;
  /** Of rows there and back, for each of its tokens. */
  rowBytes: number;
}

/** What the experts of a model need in a step of so many ranks; tokens of a solution by iteration are not known, and left out. */
export function expertTraffic(
  settings: TrainSettings,
  architecture: Architecture,
  planned: Planned,
  world: number,
): ExpertTraffic {
  const backwards = settings.max_grad_norm > 0 ? 2 : 1;
  const matrices = planned.filter(({ placed }) => isExpertMatrix(placed.spec));
  const weightBytes = matrices.reduce(
    (sum, { placed, dtype }) =>
      sum + elementsOf(placed.spec.shape) * ((1 + backwards) * DTYPES[dtype] + backwards * DTYPES.float32),
    0,
  );
  const { forward, backward } = tripBytes(settings, architecture, world);
  return { weightBytes, rowBytes: forward + backwards * backward };
}

/** Bytes of rows there and back for each token, in a forward and in a backward pass; its experts are spread evenly over the ranks. */
export function tripBytes(
  { blocks_per_step: size, compute_dtype, device }: TrainSettings,
  { layers, experts, hiddenSize }: Architecture,
  world: number,
): { forward: number; backward: number } {
  const { count, perToken } = experts;
  const routed = layers.filter(isRouted).length;
  const numbers = DTYPES[compute_dtype === "auto" ? fastestDtype(device) : compute_dtype];
  // A row there and one back for each rank that the token reaches.
  const rows = routed * world * reachedShare(perToken, count, count / world) * 2 * hiddenSize * numbers;
  const choices = routed * perToken * DTYPES.float32;
  // With gates and numbers of rows.
  const forward = rows + 2 * choices;
  // Rebuilt, all but the last block of a unit once more, and with gradients of gates.
  return { forward, backward: forward * (1 + (size - 1) / size) + rows + choices };
}

/** Of a rank and step, at most. */
export const tokensOf = (settings: TrainSettings): number =>
  settings.per_device_train_batch_size * settings.max_length * settings.gradient_accumulation_steps;

/** Whether experts stay where they are, and rows go there. */
export function expertsStay(
  settings: TrainSettings,
  architecture: Architecture,
  planned: Planned,
  world: number,
): boolean {
  if (!STORES[settings.parameters].shared || settings.share_experts === "weights") return false;
  if (settings.share_experts === "rows") return true;
  // Those of a group wait for one another in attention, and rounds of rows wait for all.
  if (settings.sequence_ranks > 1) return false;
  const { weightBytes, rowBytes } = expertTraffic(settings, architecture, planned, world);
  return rowBytes * tokensOf(settings) < weightBytes;
}

/** Errors: UserError where there are no experts. */
export function checkExpertSharing({ share_experts: shared, model }: TrainSettings, architecture: Architecture): void {
  if (shared === "weights" || hasExperts(architecture)) return;
  throw new UserError(`share_experts: ${shared} has no effect: no layer of ${model} has experts. Remove it.`);
}

/** What is said where weights are not simply brought. */
export function sharingNotes(
  settings: TrainSettings,
  { stay, weightBytes, rowBytes }: ExpertTraffic & { stay: boolean },
  world: number,
): string[] {
  if (settings.share_experts === "weights") return [];
  if (settings.sequence_ranks > 1)
    return [
      `share_experts ${settings.share_experts}: weights of experts are brought to every rank, for with sequence_ranks rows cannot travel`,
    ];
  const each = (bytes: number): string => formatBytes((bytes * (world - 1)) / world);
  const tokens = tokensOf(settings);
  const says = [
    `share_experts ${settings.share_experts}: ${stay ? "experts stay on their ranks, and rows of tokens travel" : "weights of experts are brought to every rank"}`,
    `a rank sends up to ${each(rowBytes * tokens)} of rows in a step of ${tokens} tokens, or ${each(weightBytes)} of weights and gradients; rows are less below ${Math.round(weightBytes / rowBytes)} tokens`,
  ].join("; ");
  const isReplaced = stay && settings.rank_sums === "ordered";
  return [isReplaced ? `${says}; gradients are added as rank_sums direct has them` : says];
}
