// Finds the number that an answer gives, as GSM8K writes it: after "####", or else the last number of the text.
const NUMBER = String.raw`(?:(?<![\w).])-)?\$?\s?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)`;
const MARKED = new RegExp(String.raw`####\s*(${NUMBER})`);
const ANY = new RegExp(NUMBER, "g");

/**
 * The number as text, without thousands' commas, dollar sign and a full stop after it; undefined if there is no number.
 */
export function extractAnswer(text: string): string | undefined {
  const found = MARKED.exec(text)?.[1] ?? text.match(ANY)?.at(-1);
  return found?.replaceAll(/[$,\s]/g, "");
}

/** Whether two extracted answers are the same number, as 18 and 18.0 are. */
export const sameAnswer = (a: string | undefined, b: string | undefined): boolean =>
  a !== undefined && b !== undefined && (a === b || Number(a) === Number(b));
