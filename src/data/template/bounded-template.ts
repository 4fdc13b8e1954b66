// A chat template as a program that ends. The template library runs whatever it is given; here each expression it
// evaluates is counted, what it makes is measured, and what could not be stopped is bounded before it begins: lists of
// numbers, searches. How long all takes is bounded by the caller.
import { Environment, Template } from "@huggingface/jinja";
import { TEMPLATE_LIMITS as LIMITS, LimitExceeded } from "../limits.js";
import { BoundedInterpreter, tooDeep } from "./interpreter.js";
import { type Scope, toValue } from "./python/values.js";
import type { Watch } from "./watch.js";

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
});

function scopeOf(variables: Record<string, unknown>, outer?: Scope): Scope {
  const scope = new Environment(outer);
  for (const name in variables) scope.setVariable(name, toValue(variables[name]) as never);
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
  // As jinja2 reads a template, be it written on whatever machine.
  const text = source.replaceAll(/\r\n?/g, "\n");
  return named(() => new Template(text));
}

/** The text; with `watch`, marked by it. Errors: LimitExceeded, and what the template itself throws. */
export function renderTemplate(template: Template, variables: Record<string, unknown>, watch?: Watch): string {
  return named(() => {
    const scope = scopeOf(variables, globals);
    watch?.begin(scope.lookupVariable("messages"));
    return new BoundedInterpreter(scope, variables, watch).run(template.parsed).value as string;
  });
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
