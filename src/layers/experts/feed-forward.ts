// The feed-forward branch of a layer that routes: norm, routed experts, and perhaps a shared expert.
import { junction } from "../../torch/graph.js";
import { add, cast, mul, sigmoid } from "../../torch/ops.js";
import { dtype, type Tensor } from "../../torch/tensor.js";
import type { Branch, ParameterSpec, StackedExperts, Weights } from "../../model/architecture.js";
import type { Context } from "../../model/context.js";
import { type Activation, EXPERT_BIASES, EXPERT_MATRICES, type Experts } from "../../model/expert-rows.js";
import { CHOICE_CORRECTION } from "../../model/routing.js";
import { FEED_FORWARD_NORM, unit, unitParameters } from "../dense.js";
import { type NormForm, normSpec, rmsNorm } from "../norm.js";
import { wide } from "../wide.js";
import { routedExperts } from "./routed.js";
import type { Router } from "./router.js";

/** Names on disk that differ from those in memory. */
export interface ExpertNames {
  router?: ParameterSpec["onDisk"];
  correction?: ParameterSpec["onDisk"];
  routerBias?: ParameterSpec["onDisk"];
  gateUp?: ParameterSpec["onDisk"];
  down?: ParameterSpec["onDisk"];
  /** Whether experts' matrices lie as [in, out] with columns of gate and up alternating, and their biases likewise. */
  turned?: true;
  /**
   * Names of matrices that are released expert by expert; {expert} and {part} in the template stand for a number and a
   * name.
   */
  each?: { template: string; gate: string; up: string; down: string };
}

export const USUAL_NAMES: ExpertNames = {
  each: { template: "mlp.experts.{expert}.{part}.weight", gate: "gate_proj", up: "up_proj", down: "down_proj" },
};

export interface RoutedFeedForward {
  hiddenSize: number;
  normEpsilon: number;
  /** Form of its norm; "n rounded" by default. */
  normForm?: NormForm;
  numExperts: number;
  expertsPerToken: number;
  expertWidth: number;
  router: Router;
  /** Whether logits are computed in float32, whatever the compute dtype. */
  wideRouter?: boolean;
  /** Whether the router and every product of an expert add a bias; false by default. */
  bias?: boolean;
  /** The experts' activation; "silu" by default. */
  activation?: Activation;
  /**
   * Shape of the numbers, one per expert, that are added only where experts are chosen (see `Choice`); without it there
   * are none.
   */
  correction?: number[];
  /** Width of the shared expert; 0: there is none. */
  sharedWidth: number;
  /** Whether the shared expert has its own sigmoid gate; true by default. */
  sharedGate?: boolean;
  names: ExpertNames;
}

const SILU: Activation = { name: "silu" };

/** x_TD -> experts(norm(x)) in the dtype of x. */
export const routedFeedForward = (layer: number, settings: RoutedFeedForward): Branch => ({
  kind: "experts",
  settings,
  parameters: parametersOf(settings),
  evaluate: (weights, x_TD, context) => evaluate(settings, layer, weights, x_TD, context),
  experts: (weights) => expertsOf(settings, weights),
});

/** The name of a family's shared experts. */
const sharedName = ({ sharedGate = true }: RoutedFeedForward): string =>
  sharedGate ? "mlp.shared_expert" : "mlp.shared_experts";

const SHARED_GATE = "mlp.shared_expert_gate";

function parametersOf(settings: RoutedFeedForward): ParameterSpec[] {
  const { hiddenSize: D, expertWidth: F, numExperts: E, sharedWidth, sharedGate = true, correction, names } = settings;
  const matrix = (name: string, ...shape: number[]): ParameterSpec => ({ name, shape, init: "normal" });
  const { template, gate = "gate", up = "up", down = "down" } = names.each ?? {};
  const { bias = false } = settings;
  const wideRouter = settings.wideRouter ? ({ wide: true } as const) : {};
  const turned = (shape: number[], seen: number[]) => (names.turned ? { turned: { shape, seen } } : {});
  const biases = (name: string, experts: StackedExperts, width: number): ParameterSpec[] =>
    bias ? [{ name, shape: [E, width], init: "zeros", experts }] : [];
  return [
    normSpec(FEED_FORWARD_NORM, D, settings.normForm),
    { ...matrix("mlp.gate.weight", E, D), onDisk: names.router, router: true, ...wideRouter },
    ...(bias
      ? [{ ...matrix("mlp.gate.bias", E), onDisk: names.routerBias, router: true, ...wideRouter } as const]
      : []),
    ...(correction
      ? [{ name: CHOICE_CORRECTION, shape: correction, init: "zeros", onDisk: names.correction, buffer: true } as const]
      : []),
    {
      ...matrix(EXPERT_MATRICES.gateUp, E, 2 * F, D),
      onDisk: names.gateUp,
      experts: { template, parts: [gate, up], ...turned([D, 2 * F], [D, F, 2]) },
    },
    ...biases(EXPERT_BIASES.gateUp, { parts: [gate, up], ...turned([2 * F], [F, 2]) }, 2 * F),
    {
      ...matrix(EXPERT_MATRICES.down, E, D, F),
      onDisk: names.down,
      experts: { template, parts: [down], ...turned([F, D], [F, D]) },
    },
    ...biases(EXPERT_BIASES.down, { parts: [down] }, D),
    ...(sharedWidth === 0 ? [] : unitParameters(sharedName(settings), D, sharedWidth)),
    ...(sharedWidth === 0 || !sharedGate ? [] : [matrix(`${SHARED_GATE}.weight`, 1, D)]),
  ];
}

const expertsOf = (settings: RoutedFeedForward, weights: Weights): Experts => ({
  gateUp: weights.experts(EXPERT_MATRICES.gateUp),
  down: weights.experts(EXPERT_MATRICES.down),
  biases: settings.bias ? Object.values(EXPERT_BIASES).flatMap((name) => weights.experts(name)) : [],
  activation: settings.activation ?? SILU,
  written: weights.written,
});

function evaluate(
  settings: RoutedFeedForward,
  layer: number,
  weights: Weights,
  x_TD: Tensor,
  context: Context,
): Tensor {
  const normed_TD = rmsNorm(
    x_TD,
    weights.get(FEED_FORWARD_NORM),
    settings.normEpsilon,
    context.computeDtype,
    settings.normForm,
  );
  const { elsewhere = null } = weights;
  const moved_TD = context.jitter?.(normed_TD, layer) ?? normed_TD;
  const h_TD = elsewhere ? junction(moved_TD) : moved_TD;
  const { expertsPerToken, router, sharedGate = true, wideRouter = false } = settings;
  const experts = {
    ...expertsOf(settings, weights),
    rows: weights.expertRows,
    elsewhere,
    expertsPerToken,
    router,
    correction: settings.correction ? weights.get(CHOICE_CORRECTION) : null,
  };
  const logits_TE = weights.linear("mlp.gate", wideRouter ? wide(h_TD) : h_TD);
  const routed_TD = routedExperts(h_TD, logits_TE, experts, layer, context);
  if (settings.sharedWidth === 0) return cast(routed_TD, dtype(x_TD));
  // The gate comes first: gradients of the input are added in the order of its uses.
  const gate_T1 = sharedGate ? sigmoid(weights.linear(SHARED_GATE, h_TD)) : null;
  const shared_TD = unit(weights, sharedName(settings), h_TD);
  return cast(add(routed_TD, gate_T1 === null ? shared_TD : mul(gate_T1, shared_TD)), dtype(x_TD));
}
