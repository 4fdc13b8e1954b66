// Decides whether work goes through the addon's own kernels (native/kernels) or through libtorch's operators, their
// reference. A CPU always has kernels; a GPU has them once NVRTC compiled them for it, which happens at the first
// question and is kept on disk. REVMOE_KERNELS=reference runs everything on the reference. The engine that counts
// assumes that a GPU has them.
import { UserError } from "../../errors.js";
import { native } from "../binding.js";
import { deviceIndex, isCpu } from "../device-name.js";
import { device, dtype, type Tensor } from "../tensor.js";
import { loadOnGpu } from "./gpu.js";

const CHOICES = ["auto", "reference"];
/** Forms of the kernels on a CPU; the last is the GPU's form, emulated (setup/emulate.mjs). */
const KINDS_OF_CPU = ["plain", "avx2", "avx512", "emulated"];

let reference: boolean | null = null;

/** Whether everything runs on the reference. */
export function wantsReference(): boolean {
  if (reference !== null) return reference;
  checkChoice("REVMOE_CPU", KINDS_OF_CPU);
  checkChoice("REVMOE_KERNELS", CHOICES);
  return (reference = process.env.REVMOE_KERNELS === "reference");
}

function checkChoice(name: string, choices: readonly string[]): void {
  const choice = process.env[name];
  if (!choice || choices.includes(choice)) return;
  const expected = `${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`;
  throw new UserError(`${name}: "${choice}" is not possible (expected ${expected}).`);
}

/** Whether the kernels run on the device and dtype of \`t\`: they know float32 and bfloat16. */
export const runOn = (t: Tensor): boolean =>
  (dtype(t) === "float32" || dtype(t) === "bfloat16") && hasKernels(device(t));

/** For each GPU, why it has no kernels; null if it has them. */
const refused = new Map<number, string | null>();

/** Whether the kernels run on `device`. */
export function hasKernels(device: string): boolean {
  if (wantsReference()) return false;
  return isCpu(device) || !native.hasElements() || whyNoKernels(device) === null;
}

/** Why the kernels do not run on a device, in words; null if they do. */
export function whyNoKernels(device: string): string | null {
  if (wantsReference()) return "REVMOE_KERNELS=reference";
  if (isCpu(device)) return null;
  const index = deviceIndex(device);
  const known = refused.get(index);
  if (known !== undefined) return known;
  const why = loadOnGpu(index);
  refused.set(index, why);
  return why;
}

/** Runs `fn` on the reference; for tests. */
export function onReference<Result>(fn: () => Result): Result {
  const before = reference;
  reference = true;
  try {
    return fn();
  } finally {
    reference = before;
  }
}
