// Every method, in the order of --help: a file beside this and a line in the list.
import { checkpoint, checkpointOffload } from "./checkpoint.js";
import type { Method } from "./method.js";
import { reversible } from "./reversible.js";
import { store } from "./store.js";

const ALL = [reversible, checkpoint, checkpointOffload, store] as const;

export type MethodName = (typeof ALL)[number]["name"];
export const METHOD_NAMES: readonly MethodName[] = ALL.map(({ name }) => name);
export const METHODS = Object.fromEntries(ALL.map((method) => [method.name, method])) as Record<MethodName, Method>;
export const DEFAULT_METHOD = reversible.name;

/**
 * In the order in which they are compared: from the one that keeps most, which others are measured against, to the one
 * that keeps least.
 */
export const COMPARED_METHODS = [
  ...METHOD_NAMES.filter((name) => METHODS[name].holdsBlocks),
  ...METHOD_NAMES.filter((name) => !METHODS[name].holdsBlocks && !METHODS[name].rebuilds),
  ...METHOD_NAMES.filter((name) => METHODS[name].rebuilds),
];

/** Completes "what is kept of the forward pass: ". */
export const METHODS_ABOUT = ALL.flatMap(({ about }) => about ?? [])
  .join(", ")
  .replace(/, ([^,]*)$/, ", or $1");
