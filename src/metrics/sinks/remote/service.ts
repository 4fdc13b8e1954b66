// What a server that takes a run's numbers is to the thread that talks to it, and the two ways in which it can fail. A file in the
// folder above implements `Service` for each server. Plain data crosses from thread to thread.
import type { Scalar } from "../scalars.js";
import type { RunEnd } from "../../record.js";

/** What was measured at one moment. */
export interface Point {
  step: number;
  /** Of the clock, in milliseconds. */
  time: number;
  values: readonly Scalar[];
}

/** Where to report to, read from the environment. */
export interface Target {
  /** Without a slash at its end, and without a name or password. */
  url: string;
  headers: Readonly<Record<string, string>>;
  /** Keys and passwords: no message shows them. */
  secrets: readonly string[];
  /** The project, or experiment, that the run belongs to. */
  project: string;
  /** Who owns the project, where that has to be said. */
  owner?: string;
}

/** The run as a server knows it: kept in the run's folder, so that a run that is resumed goes on there. */
export interface KnownRun {
  /** Of the server. */
  url: string;
  id: string;
}

export interface Described {
  target: Target;
  /** What the run is called there. */
  name: string;
  params: Readonly<Record<string, unknown>>;
  /** That of a run that is resumed; null for a new one. */
  known: KnownRun | null;
}

/** Each call is made again when it failed in a way that may pass, so each must bear being made twice. Errors: Unanswered, Refused. */
export interface Service {
  /** Makes the run, or goes on with the known one. `page` is where a person sees it. */
  begin(): Promise<{ id: string; page: string }>;
  send(points: readonly Point[]): Promise<void>;
  end(how: RunEnd): Promise<void>;
}

/** One request; `ask` in ask.ts with its time limit. Returns what the JSON of the answer says. */
export type Ask = (path: string, body: unknown, more?: { method?: "GET" }) => Promise<Record<string, unknown>>;

/** What a sink's module exports beside its kind. */
export interface ServiceModule {
  connect(run: Described, ask: Ask): Service;
}

/** The network or the server fails, which may pass. */
export class Unanswered extends Error {}

/** The server answers that it does not take this, which will not pass. `status` is that of HTTP; `code` is the server's own word. */
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
