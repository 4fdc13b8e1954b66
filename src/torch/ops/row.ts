// The row of an operator: `op<type>(schema, rule)`. The type is what TypeScript sees. The schema is libtorch's own
// (with int for SymInt); a test compares every row with the installed libtorch, so an upgrade that changes one shows as
// a readable difference. The rule says what the operator does to memory, for the engine that counts (shadow/): it makes
// the result, makes and drops temporaries, and tells `record` what a graph saves and what the gradient makes. Rules
// follow libtorch's derivatives.yaml and CPU kernels; rules.test.ts compares each with its operator, and
// plan/grid.test.ts measures whole steps.
import { native, type OpArgument } from "../binding.js";
import type { Value } from "../shadow/values.js";
import type { DType, Tensor } from "../types.js";

export type T = Tensor;
export type N = number;
export type { DType };

/** A type in which each tensor is replaced by a value that is counted. */
type Counted<X> = X extends Tensor ? Value : X extends readonly unknown[] ? { [Key in keyof X]: Counted<X[Key]> } : X;
type Call = (...args: never[]) => unknown;
type RuleOf<F extends Call> = (...args: Counted<Parameters<F>>) => Counted<ReturnType<F>>;
/** An operator; other rules may use its rule. */
export type Op<F extends Call> = F & { readonly rule: RuleOf<F> };

/** Arguments of a rule: in the schema's order, with values for tensors. */
export type Argument = Value | Exclude<OpArgument, readonly OpArgument[]> | readonly Argument[];
export type Result = Value | Value[] | number | boolean | undefined;

export interface Row {
  name: string;
  schema: string;
  /** Only newer versions of libtorch have it. */
  newer: boolean;
  /** Its results are not part of a graph. */
  cutsGraph: boolean;
  rule: (...args: Argument[]) => Result;
}

const table = new Map<string, Row>();
/** Every row, by its name with overload. */
export const rows: ReadonlyMap<string, Row> = table;

export const op = <F extends Call>(schema: string, rule: RuleOf<F>): Op<F> => addRow(schema, rule, {});

/** An operator that only newer versions have. Ask `hasOp` first; beside each use there is a tested fallback. */
export const newerOp = <F extends Call>(schema: string, rule: RuleOf<F>): Op<F> =>
  addRow(schema, rule, { newer: true });

/** An operator whose results are not part of a graph. */
export const cuttingOp = <F extends Call>(schema: string, rule: RuleOf<F>): Op<F> =>
  addRow(schema, rule, { cutsGraph: true });

function addRow<F extends Call>(schema: string, rule: RuleOf<F>, { newer = false, cutsGraph = false }): Op<F> {
  const name = schema.slice(0, schema.indexOf("("));
  if (table.has(name)) throw new Error(`internal: two rows for ${name}`);
  table.set(name, { name, schema, newer, cutsGraph, rule: rule as unknown as Row["rule"] });
  return Object.assign(native.op(name) as unknown as F, { rule });
}

/**
 * The rule of an operator that no plan runs: it throws, so that a plan which does run it is not counted wrongly in
 * silence.
 */
export const neverPlanned = (why: string) => (): never => {
  throw new Error(`internal: an operator that no plan runs (${why}) has no rule for memory`);
};

/** Whether this libtorch has an operator, by name with overload. */
export const hasOp = (name: string): boolean => native.hasOp(name);
