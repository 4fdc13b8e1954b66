// The dashboard's server: the page, the list of runs, and new lines of a run's metrics. It listens on loopback, answers
// only GET, and keeps no state: a browser says how far it has read. The caller closes it.
import { once } from "node:events";
import type { Server } from "node:http";
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";

import { UserError } from "../errors.js";
import { METRICS_FILE } from "../metrics/sinks/jsonl.js";
import { statOf } from "../read-file.js";
import { describeRun } from "./describe-run.js";
import { findRuns } from "./find-runs.js";
import { onlyHere } from "./only-here.js";
import { pageFiles } from "./page-files.js";
import { type Piece, readPiece } from "./tail.js";

export interface Dashboard {
  /** "http://127.0.0.1:4747/" */
  url: string;
  /** Ends open connections, too. */
  close(): Promise<void>;
}

const HOST = "127.0.0.1";

/** `port` 0 takes any free port. Errors: UserError for a port that is not available. */
export async function startDashboard(folders: readonly string[], port: number): Promise<Dashboard> {
  const { fetch } = dashboardApp(folders);
  const server = serve({ fetch, hostname: HOST, port, overrideGlobalObjects: false }) as Server;
  await once(server, "listening").catch((failure: NodeJS.ErrnoException) => {
    const why = { EADDRINUSE: "is in use", EACCES: "is not for this user" }[failure.code ?? ""];
    throw why === undefined
      ? failure
      : new UserError(`port: ${port} ${why}. Choose another port, or 0 for any that is free.`);
  });
  const address = server.address() as { port: number };
  return {
    url: `http://${HOST}:${address.port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Only our own files: the page sends no request elsewhere, and no other site may frame it. */
const POLICY = {
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  connectSrc: ["'self'"],
  imgSrc: ["'self'"],
  baseUri: ["'none'"],
  formAction: ["'none'"],
  frameAncestors: ["'none'"],
};

function dashboardApp(folders: readonly string[]): Hono {
  const files = pageFiles();
  const app = new Hono();
  app.use(secureHeaders({ contentSecurityPolicy: POLICY, strictTransportSecurity: false }));
  app.use(onlyHere);
  app.use(async (c, next) => {
    await next();
    c.header("Cache-Control", "no-store");
  });
  const file = (name: string): Response => {
    const found = files.get(name);
    if (found === undefined) return new Response("There is nothing at this address.\n", { status: 404 });
    return new Response(found.read(), { headers: { "Content-Type": found.type } });
  };
  app.get("/", () => file("index.html"));
  app.get("/page/:name", (c) => file(c.req.param("name")));
  app.get("/api/runs", (c) => {
    const { runs, notes } = findRuns(folders);
    return c.json({ folders, notes, runs: runs.map(describeRun) });
  });
  app.get("/api/runs/:id/metrics", (c) => {
    const run = findRuns(folders).runs.find(({ id }) => id === c.req.param("id"));
    if (run === undefined) return c.json({ problem: "There is no such run (any more)." }, 404);
    const { file: from = "", offset = "0" } = c.req.query();
    if (!/^(\d{1,20}-[\da-f]{16})?$/.test(from) || !/^\d{1,15}$/.test(offset))
      return c.json({ problem: "file and offset are as the last answer gave them." }, 400);
    return c.json(newLines(join(run.dir, METRICS_FILE), { file: from, offset: Number(offset) }));
  });
  app.notFound((c) => c.text("There is nothing at this address.\n", 404));
  app.onError((failure, c) => {
    if (failure instanceof UserError) return c.json({ problem: failure.message }, 500);
    throw failure;
  });
  return app;
}

/** A run has no such file before its first line. */
function newLines(path: string, place: { file: string; offset: number }): Piece {
  if (statOf(path) !== undefined) return readPiece(path, place);
  return { events: [], lines: 0, broken: [], restarted: place.file !== "", more: false, file: "", offset: 0 };
}
