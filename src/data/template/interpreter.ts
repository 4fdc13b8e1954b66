// The template library's interpreter, with Python's values and scopes instead of JavaScript's, and with limits: each
// evaluated expression is counted, and what it makes is measured. It overrides methods of the library by name, which
// the library's types do not show; so an upgrade must pass this folder's golden tests.
import { Environment, Interpreter } from "@huggingface/jinja";
import { getHeapStatistics } from "node:v8";
import { TEMPLATE_LIMITS as LIMITS, LimitExceeded, sizeOf } from "../limits.js";
import { filtered } from "./python/filters.js";
import { Loop } from "./python/loop.js";
import { methodOf, placeOf } from "./python/methods.js";
import { operate } from "./python/operators.js";
import { select } from "./python/select.js";
import { holds } from "./python/tests.js";
import { boolOf, dictOf, hasKeys, integerOf, isList, isText, isTrue, isUndefined, itemsOf } from "./python/values.js";
import { listOf, numberOf, type Scope, str, textOf, UNDEFINED, type Value } from "./python/values.js";
import type { Watch } from "./watch.js";

/** The parts of a statement that are used here, by the parser's names. */
interface Node {
  type: string;
  value: unknown;
  operator: { value: string };
  left: Node;
  right: Node;
  object: Node;
  property: Node;
  computed: boolean;
  callee: { value: string };
  args: Node[];
  operand: Node;
  argument: Node;
  test: Node;
  negate: boolean;
  lhs: Node;
  iterable: Node;
  loopvar: Node;
  body: Node[];
  defaultBlock: Node[];
}

interface Library {
  run(program: unknown): Value;
  evaluate(node: Node | undefined, scope: Scope): Value;
  evaluateArguments(args: Node[], scope: Scope): [Value[], Map<string, Value>];
  evaluateSliceExpression(object: Value, slice: Node, scope: Scope): Value;
  evaluateMemberExpression(node: Node, scope: Scope): Value;
  evaluateTestExpression(node: Node, scope: Scope): Value;
  evaluateUnaryExpression(node: Node, scope: Scope): Value;
  applyFilter(operand: Value, filter: Node, scope: Scope): Value;
}
const LibraryInterpreter = Interpreter as unknown as new (scope: Scope) => Library;

/** {% break %} and {% continue %}, thrown to the loop. */
class LoopControl extends Error {
  /** What the loop's body has written before. */
  text = "";
}

/** Statements whose value is not printed. */
const SILENT = new Set(["Set", "Macro", "Comment"]);
/** Type of a node that holds a known value instead of an expression. */
const KNOWN = "Known";
/** Memory is measured each time about this many bytes may have been made. */
const LOOK_AFTER = 1 << 24;

export const tooDeep = (): LimitExceeded =>
  new LimitExceeded(`it, or what it is given, nests or calls itself more than ${LIMITS.depth} deep`);

export class BoundedInterpreter extends LibraryInterpreter {
  private steps = 0;
  private depth = 0;
  private unlooked = 0;
  private heapAtFirst: number | undefined;
  private given: number | undefined;

  constructor(
    scope: Scope,
    private readonly variables: Record<string, unknown>,
    private readonly watch?: Watch,
  ) {
    super(scope);
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    if (++this.steps > LIMITS.steps) throw new LimitExceeded(`it takes more than ${LIMITS.steps} steps for one text`);
    if (node?.type === KNOWN) return node.value as Value;
    if (node?.type === "Break" || node?.type === "Continue") throw new LoopControl(node.type);
    if (node?.type === "IntegerLiteral" && !Number.isSafeInteger(node.value))
      throw new Error(`the template has a number beyond 2^53, near ${String(node.value)}`);
    if (++this.depth > LIMITS.depth) throw tooDeep();
    try {
      const value = super.evaluate(node, scope);
      this.weigh(value);
      return value;
    } finally {
      // Also after {% break %} and {% continue %}, which are errors that the loop catches.
      this.depth--;
    }
  }

  protected evaluateBlock(statements: Node[], scope: Scope): Value {
    let text = "";
    try {
      for (const statement of statements) {
        const value = this.evaluate(statement, scope);
        if (!SILENT.has(statement.type)) text += str(value);
      }
    } catch (error) {
      if (error instanceof LoopControl) error.text = text + error.text;
      throw error;
    }
    return textOf(text);
  }

  protected evaluateBinaryExpression({ operator, left, right }: Node, scope: Scope): Value {
    const first = this.evaluate(left, scope);
    if (operator.value === "and") return isTrue(first) ? this.evaluate(right, scope) : first;
    if (operator.value === "or") return isTrue(first) ? first : this.evaluate(right, scope);
    return operate(operator.value, first, this.evaluate(right, scope));
  }

  override evaluateUnaryExpression(node: Node, scope: Scope): Value {
    const argument = this.evaluate(node.argument, scope);
    const number = numberOf(argument);
    if (typeof number === "bigint") return integerOf(node.operator.value === "-" ? -number : number);
    return super.evaluateUnaryExpression({ ...node, argument: known(argument) }, scope);
  }

  override evaluateTestExpression(node: Node, scope: Scope): Value {
    const operand = this.evaluate(node.operand, scope);
    const found = holds(node.test.value as string, operand);
    if (found !== undefined) return boolOf(found !== node.negate);
    return super.evaluateTestExpression({ ...node, operand: known(operand) }, scope);
  }

  /** x.name looks for a method first, then for a key; x["name"] does the reverse. */
  override evaluateMemberExpression(node: Node, scope: Scope): Value {
    const object = this.evaluate(node.object, scope);
    if (isUndefined(object)) {
      const name = node.object.type === "Identifier" ? String(node.object.value) : "what a name is looked up in";
      throw new Error(`'${name}' is undefined`);
    }
    if (node.property.type === "SliceExpression") return this.evaluateSliceExpression(object, node.property, scope);
    const property = node.computed ? this.evaluate(node.property, scope) : textOf(String(node.property.value));
    if (isText(property)) {
      this.watch?.reads(object, property.value);
      const item = hasKeys(object) ? object.value.get(property.value) : undefined;
      const method = methodOf(object, property.value);
      return (node.computed ? (item ?? method) : (method ?? item)) ?? UNDEFINED;
    }
    const items = isList(object) ? object.value : isText(object) ? itemsOf(object) : [];
    return items[placeOf(property, items.length) ?? -1] ?? UNDEFINED;
  }

  override applyFilter(operand: Value, filter: Node, scope: Scope): Value {
    const isCall = filter.type === "CallExpression";
    const name = isCall ? filter.callee.value : (filter.value as string);
    const [args, named] = isCall ? this.evaluateArguments(filter.args, scope) : [[], new Map<string, Value>()];
    if (name === "map" && args.length > 0) {
      const [first, ...others] = args;
      const each = { ...filter, callee: { ...filter.callee, value: str(first) }, args: others.map(known) };
      const items = isTrue(operand) ? itemsOf(operand) : [];
      return listOf(items.map((item) => this.applyFilter(item, each, scope)));
    }
    const selecting = /^(select|reject)(attr)?$/.exec(name);
    if (selecting !== null) return select(operand, selecting[1] === "select", selecting[2] === "attr", args);
    const mine = filtered(name, operand, args, named);
    return mine ?? super.applyFilter(operand, filter, scope);
  }

  protected evaluateFor(node: Node, scope: Scope): Value {
    const { iterable, loopvar } = node;
    const isSelect = iterable.type === "SelectExpression";
    const bound = (item: Value): Scope => bind(loopvar, item, new Environment(scope));
    let items = itemsOf(this.evaluate(isSelect ? iterable.lhs : iterable, scope));
    if (isSelect) items = items.filter((item) => isTrue(this.evaluate(iterable.test, bound(item))));
    if (items.length === 0) return this.evaluateBlock(node.defaultBlock, new Environment(scope));
    let text = "";
    for (const [i, item] of items.entries()) {
      const inner = bound(item);
      inner.setVariable("loop", dictOf(new Loop(items, i)) as never);
      const turn = this.watch?.enter(item);
      let isLast = false;
      let written: string;
      try {
        written = str(this.evaluateBlock(node.body, inner));
      } catch (error) {
        if (!(error instanceof LoopControl)) throw error;
        written = error.text;
        isLast = error.message === "Break";
      }
      text += this.watch?.leave(turn, written) ?? written;
      if (isLast) break;
    }
    return textOf(text);
  }

  private weigh(made: Value | undefined): void {
    let bytes = 64;
    if (made !== undefined && isText(made)) {
      const { length } = made.value;
      if (length > LIMITS.text) this.checkSize("text", length, LIMITS.text);
      bytes += length;
    } else if (made !== undefined && isList(made)) {
      const { length } = made.value;
      if (length > LIMITS.entries) this.checkSize("list", length, LIMITS.entries);
      bytes += 8 * length;
    }
    this.unlooked += bytes;
    if (this.unlooked > LOOK_AFTER) this.lookAtMemory();
  }

  /** The limit grows with the conversation, which may make long texts. */
  private checkSize(kind: string, size: number, most: number): void {
    this.given ??= 4 * sizeOf(this.variables);
    if (size > most + this.given)
      throw new LimitExceeded(`it makes a ${kind} of ${size} (expected at most ${most + this.given})`);
  }

  private lookAtMemory(): void {
    this.unlooked = 0;
    const { used_heap_size: used } = getHeapStatistics();
    this.heapAtFirst ??= used;
    if (used - this.heapAtFirst > LIMITS.memory)
      throw new LimitExceeded(`it takes more than ${LIMITS.memory} bytes of memory`);
  }
}

const known = (value: Value): Node => ({ type: KNOWN, value }) as Node;

/** Sets the names of a loop to the values of an item; returns the scope. */
function bind(names: Node, item: Value, scope: Scope): Scope {
  if (names.type === "Identifier") {
    scope.setVariable(names.value as string, item as never);
    return scope;
  }
  const [all, items] = [names.value as Node[], itemsOf(item)];
  if (all.length !== items.length)
    throw new Error(`${items.length} values are to be unpacked into ${all.length} names of a loop`);
  for (const [i, name] of all.entries()) bind(name, items[i], scope);
  return scope;
}
