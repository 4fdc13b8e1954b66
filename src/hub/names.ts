// The form of a model's name on a Hugging Face hub, and the places of hub and cache according to the environment:
// HF_ENDPOINT, HF_TOKEN, REVMOE_CACHE, XDG_CACHE_HOME. Reads no files and makes no requests.
import { homedir } from "node:os";
import { join, resolve } from "node:path";

import { UserError } from "../errors.js";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface RepoName {
  /** As it was given: org/name or org/name@revision. */
  given: string;
  /** org/name. */
  id: string;
  /** A branch, a tag or a commit; "main" by default. */
  revision: string;
}

const NAME = /^(\w[\w.-]*\/\w[\w.-]*)(?:@(\w[\w./-]*))?$/;

/** org/name or org/name@revision; undefined for anything else. */
export function parseName(given: string): RepoName | undefined {
  const found = NAME.exec(given);
  if (!found || given.includes("..")) return undefined;
  return { given, id: found[1], revision: found[2] ?? "main" };
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** The folder of all downloads. */
export function cacheFolder(env: Environment): string {
  return resolve(env.REVMOE_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "revmoe"));
}

/** Errors: UserError if HF_ENDPOINT or HF_TOKEN have an impossible value. */
export function hubOf(env: Environment): { endpoint: string; token: string | undefined } {
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint)) {
    throw new UserError(
      `HF_ENDPOINT: ${endpoint} is no address of a hub (expected https://...). Correct it, or remove it for huggingface.co.`,
    );
  }
  const token = env.HF_TOKEN?.trim() || undefined;
  if (token && !/^[\x21-\x7e]+$/.test(token)) {
    throw new UserError(
      "HF_TOKEN: holds characters that no token has (expected hf_...). Copy it again from the hub's settings.",
    );
  }
  return { endpoint, token };
}
