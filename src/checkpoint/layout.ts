// How a parameter of the model lies on disk: as in memory (the fused form of transformers 5); as one matrix per expert
// and part, each a slice of the stacked tensor; or stacked with each matrix turned. Loading and saving share these
// names and forms.
import type { Layout } from "../model/architecture.js";
import type { PlacedParameter } from "../model/model.js";
import { copy_, narrow, reshape, select, transpose } from "../torch/ops.js";
import { scope } from "../torch/scope.js";
import { type Rows, shape, type Tensor } from "../torch/tensor.js";
import type { Folder } from "./model-files.js";

/** One tensor on disk. `slice` says which rows of which expert of a stacked parameter it holds; null: all of it. */
export interface DiskTensor {
  name: string;
  shape: number[];
  slice: { expert: number; firstRow: number } | null;
  /**
   * For a stack whose matrices are turned on disk: the shape in which the first and last dimension of each are swapped.
   */
  turned?: number[];
}

/** The name of the whole parameter in memory, in messages and in states. */
export const fullName = ({ prefix, spec }: PlacedParameter): string => prefix + spec.name;

/** The name of the whole parameter on disk. */
export const nameOnDisk = ({ prefix, spec }: PlacedParameter, layout: Layout): string =>
  prefix + (spec.onDisk?.[layout] ?? spec.name);

/** The tensors on disk that make up a parameter. Without experts both layouts agree, except for some names. */
export function diskTensors(placed: PlacedParameter, layout: Layout): DiskTensor[] {
  const { prefix, spec } = placed;
  const { template, parts } = spec.experts ?? {};
  if (parts === undefined || template === undefined || layout === "fused") {
    const name = nameOnDisk(placed, layout);
    const { turned } = spec.experts ?? {};
    if (turned === undefined) return [{ name, shape: spec.shape, slice: null }];
    return [{ name, shape: [spec.shape[0], ...turned.shape], slice: null, turned: turned.seen }];
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

/** The part of a parameter that a disk tensor holds, as it lies in memory: a view, for the caller's scope. */
export function viewOf(parameter: Tensor, { shape, slice }: DiskTensor): Tensor {
  if (!slice) return parameter;
  return scope(() => narrow(select(parameter, 0, slice.expert), 0, slice.firstRow, shape[0]));
}

/** The same part as it lies on disk; a copy if it is turned there. */
export function valueOnDisk(parameter: Tensor, piece: DiskTensor): Tensor {
  const { turned, shape: size } = piece;
  if (turned === undefined) return viewOf(parameter, piece);
  return scope(() => reshape(swapped(parameter, [size[0], ...turned.toReversed()]), size));
}

/** The piece relative to the rows that are held of a parameter; null if it is not among them. */
export function pieceWithin(piece: DiskTensor, { first, count }: Rows): DiskTensor | null {
  if (piece.slice === null) return piece;
  const expert = piece.slice.expert - first;
  return expert >= 0 && expert < count ? { ...piece, slice: { ...piece.slice, expert } } : null;
}

/** Copies a disk tensor into its part of a parameter, of which `rows` are held; matrix by matrix if they are turned. */
export function copyPiece_(parameter: Tensor, piece: DiskTensor, folder: Folder, rows: Rows): void {
  const { name, turned } = piece;
  if (turned === undefined) {
    const within = pieceWithin(piece, rows);
    if (within === null) return;
    const held = (value: Tensor): Tensor => (piece.slice ? value : narrow(value, 0, rows.first, rows.count));
    scope(() => void copy_(viewOf(parameter, within), held(folder.read(name))));
    return;
  }
  for (let index = rows.first; index < rows.first + rows.count; index++) {
    scope(() => {
      const into = select(parameter, 0, index - rows.first);
      const matrix = folder.readOne?.(name, index) ?? select(folder.read(name), 0, index);
      void copy_(into, reshape(swapped(matrix, [1, ...turned]), shape(into)));
    });
  }
}

/** A stack viewed as `sizes`, with the first and last dimension of each matrix swapped. */
const swapped = (stack: Tensor, sizes: number[]): Tensor => transpose(reshape(stack, sizes), 1, sizes.length - 1);
