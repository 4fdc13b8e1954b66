// For tests: a server on the loopback interface, in its own thread, since a sink that ends keeps the main thread
// waiting. It implements as much of MLflow, trackio and W&B as sinks use, keeps what it got, and fails on demand.
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

export interface Fault {
  /** A part of the path of the requests that fail. */
  path: string;
  /** `lost`: it does what is asked, and closes the connection instead of answering. */
  how: "hangs" | "lost" | { status: number; body?: unknown };
  /** How many requests fail; all by default. */
  times?: number;
}

export interface Got {
  path: string;
  /** Value of the header `authorization` or `x-trackio-write-token`. */
  key: string;
  body: Record<string, unknown>;
}

export interface TestingServer {
  url: string;
  got(): Promise<Got[]>;
}

/** A running server, ended after the test. */
export async function startServer(t: TestContext, faults: Fault[] = []): Promise<TestingServer> {
  const thread = new Worker(new URL(import.meta.url), { workerData: { faults } });
  t.after(() => thread.terminate());
  const [url] = (await once(thread, "message")) as [string];
  return {
    url,
    got: async () => {
      thread.postMessage("got");
      return ((await once(thread, "message")) as [Got[]])[0];
    },
  };
}

/** The answer for each path. */
function answerOf(path: string, body: Record<string, unknown>, all: readonly Got[]): unknown {
  const before = all.filter((each) => each.path === path).length - 1;
  if (path.includes("get-by-name")) {
    const isThere = path.includes("=Default") || all.some((each) => each.path.endsWith("experiments/create"));
    return isThere
      ? { experiment: { experiment_id: "7" } }
      : { status: 404, body: { error_code: "RESOURCE_DOES_NOT_EXIST", message: "no such experiment" } };
  }
  if (path.endsWith("experiments/create")) return { experiment_id: "7" };
  if (path.endsWith("runs/create")) return { run: { info: { run_id: `run-${before}` } } };
  if (path.endsWith("runs/update") && !/^run-\d+$/.test(String(body.run_id))) return { status: 404, body: {} };
  if (path.endsWith("runs/search")) {
    const made = all.filter((each) => each.path.endsWith("runs/create"));
    const wanted = String(body.filter);
    const index = made.findIndex((each) =>
      (each.body.tags as { value: string }[]).some(({ value }) => wanted.includes(value) && value.length > 20),
    );
    return { runs: index < 0 ? [] : [{ info: { run_id: `run-${index}` } }] };
  }
  if (path.endsWith("/version")) return { api_version: 1 };
  if (path === "/graphql") {
    const { name, project, entity } = body.variables as Record<string, string | null>;
    const lines = all.flatMap((each) => linesOf(each));
    const bucket = {
      name,
      project: { name: project, entity: { name: entity ?? "me" } },
      historyLineCount: lines.length,
    };
    return { data: { upsertBucket: { bucket } } };
  }
  return {};
}

/** Lines of a run's history in a request to W&B. */
export const linesOf = ({ body }: Got): string[] =>
  (body.files as Record<string, { content: string[] }> | undefined)?.["wandb-history.jsonl"]?.content ?? [];

function serve(faults: Fault[], port: NonNullable<typeof parentPort>): void {
  const all: Got[] = [];
  const send = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const path = request.url ?? "";
    const fault = faults.find((each) => path.includes(each.path) && (each.times ?? 1) > 0);
    if (fault?.times !== undefined) fault.times--;
    if (fault && typeof fault.how === "object") return send(response, fault.how.status, fault.how.body ?? {});
    if (fault?.how === "hangs") return;
    const text = Buffer.concat(chunks).toString();
    const { authorization, "x-trackio-write-token": token } = request.headers;
    const body = (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
    all.push({ path, body, key: String(authorization ?? token ?? "") });
    if (fault?.how === "lost") return request.socket.destroy();
    const answer = answerOf(path, body, all) as { status?: number; body?: unknown };
    send(response, answer.status ?? 200, answer.status === undefined ? answer : answer.body);
  });
  server.listen(0, "127.0.0.1", () => port.postMessage(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  port.on("message", () => port.postMessage(all));
}

if (!isMainThread && parentPort !== null && (workerData as { faults?: Fault[] } | null)?.faults !== undefined)
  serve((workerData as { faults: Fault[] }).faults, parentPort);
