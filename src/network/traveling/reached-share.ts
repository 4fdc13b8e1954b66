// How many ranks a token reaches whose experts are spread over them. A plan counts with it, and a run that says what it will send.

/**
 * The share of tokens that reach some of `held` experts, when each goes to `perToken` different ones of `all`, spread evenly:
 * 1 - C(all - held, perToken) / C(all, perToken). `held` may be a fraction.
 */
export function reachedShare(perToken: number, all: number, held: number): number {
  let missed = 1;
  for (let i = 0; i < perToken; i++) missed *= Math.max(0, all - held - i) / (all - i);
  return 1 - missed;
}
