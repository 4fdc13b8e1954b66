// Random numbers, from the engine's generators (see ../random.ts).
import { type N, op, type T } from "./row.js";
import { writtenOver } from "./rules.js";

export const normal_ = op<(a: T, mean: N, std: N) => T>(
  "aten::normal_(Tensor(a!) self, float mean=0., float std=1., *, Generator? generator=None) -> Tensor(a!)",
  writtenOver,
);
export const uniform_ = op<(a: T, from: N, to: N) => T>(
  "aten::uniform_(Tensor(a!) self, float from=0., float to=1., *, Generator? generator=None) -> Tensor(a!)",
  writtenOver,
);
export const random_ = op<(a: T, from: N | bigint, to: N | null) => T>(
  "aten::random_.from(Tensor(a!) self, int from, int? to, *, Generator? generator=None) -> Tensor(a!)",
  writtenOver,
);
