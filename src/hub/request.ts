// Requests to a hub: with the token where it belongs, tried again when the hub or the network fails, and every refusal
// as one sentence. Limits: no proxy, as Node's fetch has none; the token goes to the hub's own address alone.
import { setTimeout as sleep } from "node:timers/promises";

import { UserError } from "../errors.js";
import type { RepoName } from "./names.js";

export interface Connection {
  repo: RepoName;
  endpoint: string;
  token: string | undefined;
  /** How often in a row something may fail; without progress between. */
  attempts: number;
  /** Before the second attempt; doubles from then on. */
  waitMs: number;
}

/** The network or the hub fails, which may pass. */
export class HubUnreachable extends UserError {
  constructor(
    { repo, endpoint }: Connection,
    why: string,
    /** How long the hub asks to be left alone. */
    readonly restMs = 0,
  ) {
    super(`${repo.given}: ${endpoint} fails: ${why}. Try again, what has arrived is kept; or give the path of a folder that exists.`);
  }
}

/** One attempt at a GET; the body is not read yet. Errors: HubUnreachable, or a UserError for what will not pass. */
export async function request(connection: Connection, url: string, headers: Record<string, string> = {}): Promise<Response> {
  const { endpoint, token } = connection;
  const own = new URL(url).origin === new URL(endpoint).origin;
  let response: Response;
  try {
    // Ranges count the bytes of the file itself, not of a compressed form. Redirects to other hosts drop the token.
    response = await fetch(url, {
      headers: { ...headers, "accept-encoding": "identity", ...(own && token ? { authorization: `Bearer ${token}` } : {}) },
    });
  } catch (failure) {
    throw new HubUnreachable(connection, reasonOf(failure));
  }
  if (response.ok) return response;
  await response.body?.cancel();
  const { status } = response;
  if (status === 408 || status === 429 || status >= 500) {
    const restMs = 1000 * Math.min(30, Number(response.headers.get("retry-after")) || 0);
    throw new HubUnreachable(connection, `it answers with status ${status}`, restMs);
  }
  throw refusal(connection, status, response.headers.get("x-error-code"));
}

/** Calls `once` until it succeeds; attempts are counted anew whenever `progress` has grown. */
export async function withRetries<T>(
  { attempts, waitMs }: Pick<Connection, "attempts" | "waitMs">,
  once: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  for (let failed = 0; ; ) {
    const before = progress();
    try {
      return await once();
    } catch (failure) {
      failed = progress() > before ? 1 : failed + 1;
      if (!(failure instanceof HubUnreachable) || failed >= attempts) throw failure;
      await sleep(Math.max(failure.restMs, waitMs * 2 ** (failed - 1)));
    }
  }
}

/** `fetch` for @huggingface/hub: whole answers, with retries. */
export function fetchFor(connection: Connection): typeof fetch {
  return (input) =>
    withRetries(connection, async () => {
      const { status, headers, body } = await readWhole(connection, String(input));
      return new Response(body, { status, headers });
    });
}

async function readWhole(connection: Connection, url: string): Promise<{ status: number; headers: Headers; body: ArrayBuffer }> {
  const response = await request(connection, url);
  try {
    return { status: response.status, headers: response.headers, body: await response.arrayBuffer() };
  } catch (failure) {
    throw new HubUnreachable(connection, reasonOf(failure));
  }
}

/** What the system says, under what fetch makes of it. */
export function reasonOf(failure: unknown): string {
  const { message, cause } = failure as Error;
  if (!(cause instanceof Error)) return message;
  return cause.message || (cause as NodeJS.ErrnoException).code || message;
}

function refusal({ repo, endpoint, token }: Connection, status: number, code: string | null): UserError {
  const { given, id, revision } = repo;
  const page = `${endpoint}/${id}`;
  if (code === "RevisionNotFound") return new UserError(`${given}: ${id} has no revision ${revision}. Choose one of ${page}/tree/main.`);
  if (code === "GatedRepo" || status === 403) {
    return new UserError(`${given}: its authors give it only to some (status ${status}). Accept the licence on ${page}, and set HF_TOKEN.`);
  }
  if (status === 401 && token)
    return new UserError(`${given}: ${endpoint} does not accept HF_TOKEN (status 401). Make a new token in its settings.`);
  if (status === 401) {
    return new UserError(
      `${given}: is no folder here, and no public model of ${endpoint} (status 401). ` +
        `Check the spelling; if it is private, accept the licence on ${page} and set HF_TOKEN.`,
    );
  }
  if (status === 404) {
    return new UserError(
      `${given}: is no folder here, and no model of ${endpoint}${token ? " that HF_TOKEN may see" : ""}. Check the spelling.`,
    );
  }
  return new UserError(`${given}: ${endpoint} refuses with status ${status}${code ? ` (${code})` : ""}. Check HF_ENDPOINT and HF_TOKEN.`);
}
