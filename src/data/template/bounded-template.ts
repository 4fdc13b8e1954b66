// Runs a chat template so that it always ends. The template library runs anything it is given. Here each expression
// that it evaluates is counted, and what it makes is measured. What cannot be stopped later is bounded before it
// begins: lists of numbers, searches. The caller bounds the total time.
import { Environment, Template } from "@huggingface/jinja";
import { TEMPLATE_LIMITS as LIMITS, LimitExceeded } from "../limits.js";
import { BoundedInterpreter, tooDeep } from "./interpreter.js";
import { type Scope, toValue } from "./python/values.js";
import type { Watch } from "./watch.js";

const dated = new Template("{{ strftime_now(format) }}");
/** Variables of every template. They cannot change, so all templates share them. */
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
});

function scopeOf(variables: Record<string, unknown>, outer?: Scope): Scope {
  const scope = new Environment(outer);
  for (const name in variables) scope.setVariable(name, toValue(variables[name]) as never);
  return scope;
}

/** Errors: LimitExceeded for a template that is too long, SyntaxError and others for one that cannot be parsed. */
export function readTemplate(source: string): Template {
  if (source.length > LIMITS.source)
    throw new LimitExceeded(`it has ${source.length} characters (expected at most ${LIMITS.source})`);
  for (const { 0: blanks, index } of source.matchAll(/\s+/g)) {
    if (blanks.length <= LIMITS.blanks) continue;
    throw new LimitExceeded(`it has ${blanks.length} blanks in a row at ${index} (expected at most ${LIMITS.blanks})`);
  }
  // jinja2 reads line ends of every machine like this.
  const text = source.replaceAll(/\r\n?/g, "\n");
  return named(() => new Template(text));
}

/** The rendered text; with `watch`, it has marks. Errors: LimitExceeded, and what the template itself throws. */
export function renderTemplate(template: Template, variables: Record<string, unknown>, watch?: Watch): string {
  return named(() => {
    const scope = scopeOf(variables, globals);
    watch?.begin(scope.lookupVariable("messages"));
    return new BoundedInterpreter(scope, variables, watch).run(template.parsed).value as string;
  });
}

/** Turns the engine's own limits into LimitExceeded. */
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

/** Python's range: the numbers from `first` up to `end`, or from 0 up to `first`. */
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
