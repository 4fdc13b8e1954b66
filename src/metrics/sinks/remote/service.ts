// What a server that takes a run's numbers is for the thread that talks to it, and the two ways in which it can fail. A
// file in the folder above implements `Service` for each server. Only plain data passes between threads.
import type { Scalar } from "../scalars.js";
import type { RunEnd } from "../../record.js";

/** What was measured at one moment. */
export interface Point {
  step: number;
  /** Time of the clock, in milliseconds. */
  time: number;
  values: readonly Scalar[];
}

/** The server to report to, read from the environment. */
export interface Target {
  /** Without a final slash, and without a user name or password. */
  url: string;
  headers: Readonly<Record<string, string>>;
  /** Keys and passwords, which no message shows. */
  secrets: readonly string[];
  /** The project, or experiment, of the run. */
  project: string;
  /** The owner of the project, if the server must be told. */
  owner?: string;
}

/** A run's id on the server; kept in the run's folder, so that a resumed run continues there. */
export interface KnownRun {
  /** The server's address. */
  url: string;
  id: string;
}

export interface Described {
  target: Target;
  /** The run's name on the server. */
  name: string;
  params: Readonly<Record<string, unknown>>;
  /** The id of a resumed run; null for a new one. */
  known: KnownRun | null;
}

/**
 * A call that fails temporarily is repeated, so each call must have the same effect if it is made twice. Errors:
 * Unanswered, Refused.
 */
export interface Service {
  /** Makes the run, or continues the known one. `page` is its address for a person. */
  begin(): Promise<{ id: string; page: string }>;
  send(points: readonly Point[]): Promise<void>;
  end(how: RunEnd): Promise<void>;
}

/** Makes one request, with a time limit (ask.ts). Returns the answer's JSON. */
export type Ask = (path: string, body: unknown, more?: { method?: "GET" }) => Promise<Record<string, unknown>>;

/** What a sink's module exports, beside its kind. */
export interface ServiceModule {
  connect(run: Described, ask: Ask): Service;
}

/** The network or the server fails; this may pass. */
export class Unanswered extends Error {}

/** The server refuses, which will not pass. `status` is that of HTTP; `code` is the server's own. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
  ) {
    super(message);
  }

  /** Whether it is about who asks, not about what is asked. */
  get isAboutKeys(): boolean {
    return this.status === 401 || this.status === 403;
  }
}
