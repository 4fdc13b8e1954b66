// How a parameter of the model lies on disk: as it is in memory (the fused form of transformers 5), or one matrix per
// expert and part, each a slice of the stacked tensor. Loading and saving share these names.
import type { Layout } from "../model/architecture.js";
import type { PlacedParameter } from "../model/model.js";
import { narrow, select } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import type { Tensor } from "../torch/tensor.js";

/** One tensor on disk; `slice` says which rows of which expert it is of a stacked parameter, null for all of it. */
export interface DiskTensor {
  name: string;
  shape: number[];
  slice: { expert: number; firstRow: number } | null;
}

/** The name of the whole parameter in memory, in messages and in states. */
export const fullName = ({ prefix, spec }: PlacedParameter): string => prefix + spec.name;

/** The name of the whole parameter on disk. */
export const nameOnDisk = ({ prefix, spec }: PlacedParameter, layout: Layout): string =>
  prefix + (spec.onDisk?.[layout] ?? spec.name);

/** The tensors on disk that make up a parameter; both layouts agree where there are no experts, but for some names. */
export function diskTensors(placed: PlacedParameter, layout: Layout): DiskTensor[] {
  const { prefix, spec } = placed;
  const { template, parts } = spec.experts ?? {};
  if (parts === undefined || template === undefined || layout === "fused") {
    return [{ name: nameOnDisk(placed, layout), shape: spec.shape, slice: null }];
  }
  const [experts, allRows, ...rest] = spec.shape;
  const rows = allRows / parts.length;
  return Array.from({ length: experts }, (_, expert) =>
    parts.map(
      (part, i): DiskTensor => ({
        name: prefix + template.replace("{expert}", String(expert)).replace("{part}", part),
        shape: [rows, ...rest],
        slice: { expert, firstRow: i * rows },
      }),
    ),
  ).flat();
}

/** The part of a parameter that a disk tensor stands for: a view, for the caller's scope. */
export function viewOf(parameter: Tensor, { shape, slice }: DiskTensor): Tensor {
  if (!slice) return parameter;
  return scope(() => narrow(select(parameter, 0, slice.expert), 0, slice.firstRow, shape[0]));
}
