// The number that an answer comes to, as GSM8K writes it: behind "####", or else the last number of the text.
const NUMBER = String.raw`(?:(?<![\w).])-)?\$?\s?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)`;
const MARKED = new RegExp(String.raw`####\s*(${NUMBER})`);
const ANY = new RegExp(NUMBER, "g");

/** As text without thousands' commas, dollar sign and a full stop behind it; undefined where there is no number. */
export function extractAnswer(text: string): string | undefined {
  const found = MARKED.exec(text)?.[1] ?? text.match(ANY)?.at(-1);
  return found?.replaceAll(/[$,\s]/g, "");
}

/** Whether two extracted answers are one number: 18 and 18.0 are. */
export const sameAnswer = (a: string | undefined, b: string | undefined): boolean =>
  a !== undefined && b !== undefined && (a === b || Number(a) === Number(b));
