// A chat template as a program that ends. The template library runs whatever it is given; here each expression it
// evaluates is counted, what it makes is measured, and what could not be stopped is bounded before it begins: lists of
// numbers, searches. How long all takes is bounded by the caller.
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { getHeapStatistics } from "node:v8";
import { TEMPLATE_LIMITS as LIMITS, LimitExceeded, sizeOf } from "../limits.js";
import { STRIP_VARIABLES, withPythonStrip } from "./python-strip.js";

/** The library's types do not reach through to its users: what is used of them, by its names. */
interface Value {
  type: string;
  value: unknown;
}
type Scope = InstanceType<typeof Environment>;
interface Evaluator {
  run(program: unknown): Value;
  evaluate(node: Node | undefined, scope: Scope): Value;
}
const LibraryInterpreter = Interpreter as new (scope: Scope) => Evaluator;

/** What is looked at here of a statement, by the names the parser gives. */
interface Node {
  type: string;
  operator: { value: string };
  left: Node;
  right: Node;
  callee: Node;
  object: Node;
  property: Node;
  filter: Node;
  args: Node[];
  value: unknown;
}

/** A value that is already known, in place of the expression for it. */
const KNOWN = "Known";
/** Memory is looked at when about so many bytes may have been made. */
const LOOK_AFTER = 1 << 24;

const dated = new Template("{{ strftime_now(format) }}");
/** What every template knows; nothing of it can change, so all share it. */
const globals = scopeOf({
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
  range,
  strftime_now: (format: unknown) => dated.render({ format }),
  ...STRIP_VARIABLES,
});

function scopeOf(variables: Record<string, unknown>, outer?: Scope): Scope {
  const scope = new Environment(outer);
  for (const name in variables) scope.set(name, variables[name]);
  return scope;
}

/** Errors: LimitExceeded for one that is too long, SyntaxError and others for one that cannot be read. */
export function readTemplate(source: string): Template {
  if (source.length > LIMITS.source)
    throw new LimitExceeded(`it has ${source.length} characters (expected at most ${LIMITS.source})`);
  for (const { 0: blanks, index } of source.matchAll(/\s+/g)) {
    if (blanks.length <= LIMITS.blanks) continue;
    throw new LimitExceeded(`it has ${blanks.length} blanks in a row at ${index} (expected at most ${LIMITS.blanks})`);
  }
  return named(() => withPythonStrip(new Template(source)));
}

/** The text. Errors: LimitExceeded, and what the template itself throws. */
export function renderTemplate(template: Template, variables: Record<string, unknown>): string {
  return named(
    () => new BoundedInterpreter(scopeOf(variables, globals), variables).run(template.parsed).value as string,
  );
}

/** The engine's own limits, by our names. */
function named<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw /call stack/.test(error.message)
      ? tooDeep()
      : new LimitExceeded(`it makes a text or a list without end (${error.message})`);
  }
}

function tooDeep(): LimitExceeded {
  return new LimitExceeded(`it, or what it is given, nests or calls itself more than ${LIMITS.depth} deep`);
}

/** As Python's: the numbers from `first` up to `end`, or from 0 up to `first`. */
function range(first: number, end?: number, step = 1): number[] {
  const [from, to] = end === undefined ? [0, first] : [first, end];
  if (step === 0) throw new Error("range() step must not be zero");
  const numbers: number[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) {
    if (numbers.length === LIMITS.entries) throw new LimitExceeded(`range() makes more than ${LIMITS.entries} numbers`);
    numbers.push(i);
  }
  return numbers;
}

class BoundedInterpreter extends LibraryInterpreter {
  private steps = 0;
  private depth = 0;
  private unlooked = 0;
  private heapAtFirst: number | undefined;
  private given: number | undefined;

  constructor(
    scope: Scope,
    private readonly variables: Record<string, unknown>,
  ) {
    super(scope);
  }

  override evaluate(node: Node | undefined, scope: Scope): Value {
    if (++this.steps > LIMITS.steps) throw new LimitExceeded(`it takes more than ${LIMITS.steps} steps for one text`);
    if (node?.type === KNOWN) return node.value as Value;
    if (++this.depth > LIMITS.depth) throw tooDeep();
    try {
      const value = super.evaluate(this.bounded(node, scope), scope);
      this.weigh(value);
      return value;
    } finally {
      // Also behind {% break %} and {% continue %}, which are errors that the loop catches.
      this.depth--;
    }
  }

  /** The node, with operands known and found to be small enough: of `a in b`, `b.split(a)` and filters that indent. */
  private bounded(node: Node | undefined, scope: Scope): Node | undefined {
    const known = (of: Node): Node => ({ type: KNOWN, value: this.evaluate(of, scope) }) as Node;
    if (node?.type === "BinaryExpression" && (node.operator.value === "in" || node.operator.value === "not in")) {
      const [left, right] = [known(node.left), known(node.right)];
      boundSearch(left, right);
      return { ...node, left, right };
    }
    if (
      node?.type === "CallExpression" &&
      node.callee.type === "MemberExpression" &&
      node.callee.property.value === "split"
    ) {
      const [first, ...rest] = node.args;
      if (first === undefined || first.type.startsWith("Keyword") || first.type.startsWith("Spread")) return node;
      const [separator, object] = [known(first), known(node.callee.object)];
      boundSearch(separator, object);
      return { ...node, callee: { ...node.callee, object }, args: [separator, ...rest] };
    }
    if (node?.filter?.type === "CallExpression" && /^(indent|tojson)$/.test(node.filter.callee.value as string)) {
      const argument = (of: Node): Node => {
        if (of.type.includes("Spread")) return of;
        const named = of.type === "KeywordArgumentExpression";
        const value = known(named ? (of.value as Node) : of);
        boundIndent(value);
        return named ? { ...of, value } : value;
      };
      return { ...node, filter: { ...node.filter, args: node.filter.args.map(argument) } };
    }
    return node;
  }

  private weigh(made: Value | undefined): void {
    let bytes = 64;
    if (made?.type === "StringValue") {
      const { length } = made.value as string;
      if (length > LIMITS.text) this.checkSize("text", length, LIMITS.text);
      bytes += length;
    } else if (Array.isArray(made?.value)) {
      const { length } = made.value;
      if (length > LIMITS.entries) this.checkSize("list", length, LIMITS.entries);
      bytes += 8 * length;
    }
    this.unlooked += bytes;
    if (this.unlooked > LOOK_AFTER) this.lookAtMemory();
  }

  /** A long conversation may make long texts. */
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

function boundIndent({ value }: Node): void {
  const blanks = (value as Value | undefined)?.value;
  if (typeof blanks === "number" && blanks > LIMITS.indent)
    throw new LimitExceeded(`it indents by ${blanks} (expected at most ${LIMITS.indent})`);
}

function boundSearch(wanted: Node, searched: Node): void {
  const [part, whole] = [(wanted.value as Value | undefined)?.value, (searched.value as Value | undefined)?.value];
  if (typeof part !== "string" || typeof whole !== "string") return;
  if (mayTakeLong(part, whole)) throw new LimitExceeded(`it searches ${whole.length} letters for ${part.length}`);
}

/** Whether a search that nothing can stop would, in the worst case, compare too many letters. */
export function mayTakeLong(part: string, whole: string): boolean {
  return part.length * Math.max(0, whole.length - part.length + 1) > LIMITS.search;
}
