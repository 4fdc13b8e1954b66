// Requests to a hub: with the token where it belongs, repeated when the hub or the network fails, and with every
// refusal as one sentence. Limits: no proxy, as Node's fetch has none; the token goes only to the hub's own address.
import { setTimeout as sleep } from "node:timers/promises";

import { UserError } from "../errors.js";
import { formatBytes, formatDuration } from "../format.js";
import { type Limits, Patience, timeIn } from "./limits.js";
import type { RepoName } from "./names.js";

export interface Connection {
  repo: RepoName;
  kind: "model" | "dataset";
  endpoint: string;
  token: string | undefined;
  /** Number of consecutive failures, without progress in between. */
  attempts: number;
  /** Wait before the second attempt; it doubles each time. */
  waitMs: number;
  limits: Limits;
  /** Gets a line for the person, while something is waited for. */
  say: (line: string) => void;
}

/** The network or the hub fails; this may pass. */
export class HubUnreachable extends UserError {
  constructor(
    { repo, endpoint }: Connection,
    readonly why: string,
    /** How long the hub asks to wait. */
    readonly restMs = 0,
  ) {
    super(
      `${repo.given}: ${endpoint} fails: ${why}. Try again, what has arrived is kept; or give the path of a folder that exists.`,
    );
  }
}

export interface Answer {
  status: number;
  headers: Headers;
  /** The body as it comes. Errors: HubUnreachable if it breaks off, or stops for longer than the limits allow. */
  chunks: AsyncIterable<Uint8Array>;
}

/**
 * Makes one attempt at a GET. With `whole`, the whole answer must come within the time that is otherwise the limit of
 * silence. Errors: HubUnreachable, or a UserError for a failure that will not pass.
 */
export async function request(
  connection: Connection,
  url: string,
  { headers = {}, whole = false }: { headers?: Record<string, string>; whole?: boolean } = {},
): Promise<Answer> {
  const { endpoint, token, limits, say } = connection;
  const { origin, pathname } = new URL(url);
  const own = origin === new URL(endpoint).origin;
  const patience = new Patience(`${origin}${pathname}`, limits, { say, whole });
  let response: Response;
  try {
    // Ranges count bytes of the file itself, not of a compressed form. Redirects to other hosts drop the token.
    response = await fetch(url, {
      headers: {
        ...headers,
        "accept-encoding": "identity",
        ...(own && token ? { authorization: `Bearer ${token}` } : {}),
      },
      signal: patience.signal,
    });
  } catch (failure) {
    patience.stop();
    throw new HubUnreachable(connection, reasonOf(failure));
  }
  if (response.ok)
    return { status: response.status, headers: response.headers, chunks: chunksOf(response, patience, connection) };
  patience.stop();
  response.body?.cancel().catch(() => {}); // what it says beside the status is not read
  throw failureOf(connection, response);
}

async function* chunksOf({ body }: Response, patience: Patience, connection: Connection): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body ?? []) {
      patience.arrived((chunk as Uint8Array).length);
      yield chunk as Uint8Array;
    }
  } catch (failure) {
    throw new HubUnreachable(connection, reasonOf(failure));
  } finally {
    patience.stop();
  }
}

function failureOf(connection: Connection, { status, headers }: Response): UserError {
  if (status !== 408 && status !== 429 && status < 500) return refusal(connection, status, headers.get("x-error-code"));
  const { repo, endpoint, limits } = connection;
  const restMs = restOf(headers.get("retry-after"));
  if (restMs <= limits.restMs) return new HubUnreachable(connection, `it answers with status ${status}`, restMs);
  return new UserError(
    `${repo.given}: ${endpoint} answers with status ${status} and asks to be left alone for ${formatDuration(restMs)} ` +
      `(expected at most ${formatDuration(limits.restMs)}). Try again then, what has arrived is kept.`,
  );
}

/** A Retry-After header, in seconds or as a date, in milliseconds; 0 if there is none. */
function restOf(stated: string | null): number {
  if (!stated) return 0;
  const ms = /^\d/.test(stated) ? 1000 * Number(stated) : Date.parse(stated) - Date.now();
  return Math.max(0, ms || 0);
}

/** Calls `once` until it succeeds; whenever `progress`, in bytes, has grown, attempts are counted anew. */
export async function withRetries<T>(
  { endpoint, attempts, waitMs, limits, say }: Connection,
  once: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  for (let failed = 0; ; ) {
    const before = progress();
    try {
      return await once();
    } catch (failure) {
      failed = progress() >= before + limits.leastBytes ? 1 : failed + 1;
      if (!(failure instanceof HubUnreachable) || failed >= attempts) throw failure;
      const pauseMs = Math.max(failure.restMs, waitMs * 2 ** (failed - 1));
      say(
        `waiting: ${endpoint} fails (${failure.why}); asked again at ${timeIn(pauseMs)}, attempt ${failed + 1} of ${attempts}`,
      );
      await sleep(pauseMs);
    }
  }
}

/** `fetch` for @huggingface/hub: whole answers of limited size, with retries. `check` may refuse an address. */
export function fetchFor(connection: Connection, check: (url: string) => void): typeof fetch {
  return (input) => {
    check(String(input));
    return withRetries(connection, async () => {
      const { status, headers, chunks } = await request(connection, String(input), { whole: true });
      const body: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > connection.limits.answerBytes) throw tooLarge(connection);
        body.push(chunk);
      }
      return new Response(Buffer.concat(body), { status, headers });
    });
  };
}

const tooLarge = ({ repo, endpoint, limits }: Connection): UserError =>
  new UserError(
    `${repo.given}: ${endpoint} does not answer as a hub does: more than ${formatBytes(limits.answerBytes)} where it lists files. Check HF_ENDPOINT.`,
  );

/** The system's own message beneath that of fetch. */
export function reasonOf(failure: unknown): string {
  const { message, cause } = failure as Error;
  if (!(cause instanceof Error)) return message;
  return cause.message || (cause as NodeJS.ErrnoException).code || message;
}

/** The address of its page, below which its files are, too. */
export const pageOf = ({ repo, kind, endpoint }: Connection): string =>
  `${endpoint}/${kind === "dataset" ? "datasets/" : ""}${repo.id}`;

function refusal(connection: Connection, status: number, code: string | null): UserError {
  const { repo, kind, endpoint, token } = connection;
  const { given, id, revision } = repo;
  const page = pageOf(connection);
  const what = kind === "dataset" ? "data set" : "model";
  const here = kind === "dataset" ? "no file or folder here" : "no folder here";
  if (code === "RevisionNotFound")
    return new UserError(`${given}: ${id} has no revision ${revision}. Choose one of ${page}/tree/main.`);
  if (code === "GatedRepo" || status === 403) {
    return new UserError(
      `${given}: its authors give it only to some (status ${status}). Accept the licence on ${page}, and set HF_TOKEN.`,
    );
  }
  if (status === 401 && token)
    return new UserError(
      `${given}: ${endpoint} does not accept HF_TOKEN (status 401). Make a new token in its settings.`,
    );
  if (status === 401) {
    return new UserError(
      `${given}: is ${here}, and no public ${what} of ${endpoint} (status 401). ` +
        `Check the spelling; if it is private, accept the licence on ${page} and set HF_TOKEN.`,
    );
  }
  if (status === 404) {
    return new UserError(
      `${given}: is ${here}, and no ${what} of ${endpoint}${token ? " that HF_TOKEN may see" : ""}. Check the spelling.`,
    );
  }
  return new UserError(
    `${given}: ${endpoint} refuses with status ${status}${code ? ` (${code})` : ""}. Check HF_ENDPOINT and HF_TOKEN.`,
  );
}
