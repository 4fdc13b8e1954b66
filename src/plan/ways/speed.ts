// An estimate of a step's time from what it must do: products by their number, updates by the bytes they touch, and what is moved between
// card, main memory and disk meanwhile. Rough, within a factor of two where it was compared (docs/results.md), and the same for all ways, so
// that their order holds better than their figures.
import type { Architecture } from "../../model/architecture.js";
import { isRouted } from "../../model/architecture.js";
import { placedWeights } from "../../model/model.js";
import { METHODS } from "../../reversible/methods/registry.js";
import { STORES } from "../../store/registry.js";
import { elementsOf } from "../../optim/optimizer.js";
import type { Plan } from "../plan.js";
import type { Machine } from "./machine.js";

/** Of the peak, what products reach with all that is between them: measured steps (docs/benchmarks.md; 0.32 to 0.39 on an H200). */
const REACHED_ON_CARD = 0.37;
const REACHED_ON_CPU = 0.3;
/** The same of an update's passes over memory (0.46 and 0.57 there), and of copies over the link, which alone reach 0.82. */
const REACHED_BY_UPDATES = { onCard: 0.5, onCpu: 0.3 };
const REACHED_BY_COPIES = 0.7;

/** Multiplications and additions, each one, of a forward pass of the blocks and of the head for a token. */
export function flopsOfToken(architecture: Architecture, length: number): { blocks: number; head: number } {
  const { hiddenSize, vocabSize, layers, experts } = architecture;
  const share = experts.count === 0 ? 1 : experts.perToken / experts.count;
  let blocks = 0;
  for (const { layer, spec } of placedWeights(architecture)) {
    if (layer < 0) continue;
    blocks += 2 * elementsOf(spec.shape) * (spec.experts && isRouted(layers[layer]) ? share : 1);
  }
  // Scores and values of half the pairs.
  blocks += layers.length * 2 * length * hiddenSize;
  return { blocks, head: 2 * hiddenSize * vocabSize };
}

/** Seconds of what a step does. */
export interface StepParts {
  forward: number;
  /** Of one backward pass, and how many there are. */
  backward: number;
  backwards: number;
  updating: number;
  /** Of copies of weights and state, meanwhile. */
  moved: number;
}

/** Weights and state of the whole model, wherever they lie, or a rank's share of them. */
type Stored = Record<"weightBytes" | "stateBytes", number>;

/** Seconds of a step of a plan. */
export function stepSeconds(plan: Plan, architecture: Architecture, stored: Stored, machine: Machine): number {
  const { forward, backward, backwards, updating, moved } = stepParts(plan, architecture, stored, machine);
  return Math.max(forward + backwards * backward + updating, moved);
}

export function stepParts(
  { settings, terms }: Plan,
  architecture: Architecture,
  { weightBytes, stateBytes }: Stored,
  machine: Machine,
): StepParts {
  const { parameters, method, max_length, max_grad_norm, gradient_accumulation_steps, per_device_train_batch_size } =
    settings;
  const tokens = gradient_accumulation_steps * per_device_train_batch_size * max_length;
  const { blocks, head } = flopsOfToken(architecture, max_length);
  const again = METHODS[method].holdsBlocks ? 0 : 1;
  // A limit on the norm of all gradients takes the way back twice.
  const backwards = max_grad_norm > 0 ? 2 : 1;
  const { card } = machine;
  const flops = card === null ? machine.flops * REACHED_ON_CPU : card.tflops * 1e12 * REACHED_ON_CARD;
  const forward = (tokens * blocks) / flops;
  const backward = (tokens * (blocks * (again + 2) + (head * 3) / backwards)) / flops;
  const weights = placedWeights(architecture).reduce((sum, { spec }) => sum + elementsOf(spec.shape), 0);
  // Weight and state in and out, the gradient of 4 bytes written once and read twice.
  const rate =
    card === null ? machine.memoryRate * REACHED_BY_UPDATES.onCpu : card.memoryRate * REACHED_BY_UPDATES.onCard;
  const updating = (2 * (weightBytes + stateBytes) + 12 * weights) / rate;
  return { forward, backward, backwards, updating, moved: movedSeconds() };

  /** Weights come twice, those that changed go once, state comes and goes. */
  function movedSeconds(): number {
    const { lies } = STORES[parameters];
    if (lies === "device") return 0;
    const away = lies === "memory" ? 1 - (terms.weightBytes + terms.stateBytes) / (weightBytes + stateBytes) : 1;
    const inBytes = (2 * weightBytes + stateBytes) * away;
    const outBytes = (weightBytes + stateBytes) * away;
    // Both directions at once.
    const link = card === null ? 0 : Math.max(inBytes, outBytes) / (card.linkRate * REACHED_BY_COPIES);
    if (lies === "memory") return link;
    const room = Math.max(0, machine.memoryBytes - (card === null ? terms.peakBytes : 0));
    const missing = Math.max(0, 1 - room / (weightBytes + stateBytes));
    return Math.max(link, ((inBytes + outBytes) * missing) / machine.diskRate);
  }
}
