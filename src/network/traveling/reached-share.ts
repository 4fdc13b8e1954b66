// How many ranks a token reaches when its experts are spread over ranks. A plan counts with this; a run reports it as
// what it will send.

/**
 * The share of tokens that reach at least one of `held` experts, when each token goes to `perToken` different ones of
 * `all`, spread evenly: 1 - C(all - held, perToken) / C(all, perToken). `held` may be a fraction.
 */
export function reachedShare(perToken: number, all: number, held: number): number {
  let missed = 1;
  for (let i = 0; i < perToken; i++) missed *= Math.max(0, all - held - i) / (all - i);
  return 1 - missed;
}
