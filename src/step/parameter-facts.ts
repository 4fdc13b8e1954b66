// What an optimizer is told of a parameter: what it does in the network, and which matrices it consists of. A stacked
// tensor of experts counts as many matrices as its checkpoint names on disk. So an optimizer that looks at matrices
// treats each expert's gate, up and down projection as it would treat separate tensors. Biases of experts are one
// vector.
import type { Architecture } from "../model/architecture.js";
import type { PlacedParameter } from "../model/model.js";
import type { ParameterFacts } from "../optim/optimizer.js";

export function parameterFacts(architecture: Architecture, { layer, prefix, spec }: PlacedParameter): ParameterFacts {
  const { shape, experts } = spec;
  const name = prefix + spec.name;
  if (shape.length === (experts ? 2 : 1)) {
    const elements = shape.reduce((product, size) => product * size, 1);
    return { name, shape, kind: "vector", matrices: 1, rows: 1, columns: elements };
  }
  const parts = experts?.parts.length ?? 1;
  const isEmbedding = layer < 0 && spec.name === architecture.outer.embedding.name;
  return {
    name,
    shape,
    kind: layer >= 0 ? "hidden" : isEmbedding ? "embedding" : "head",
    matrices: (experts ? shape[0] : 1) * parts,
    rows: (experts ? shape[shape.length - 2] : shape.slice(0, -1).reduce((product, size) => product * size, 1)) / parts,
    columns: shape[shape.length - 1],
  };
}
