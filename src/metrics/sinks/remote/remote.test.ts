// Sinks that are servers: what each server gets of a run and of its continuation, and every way in which a server fails. A run is never
// ended by one, one warning says it, and the end says what was not sent.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { UserError } from "../../../errors.js";
import type { RunEnd, RunEvent, StepRecord } from "../../record.js";
import { mlflow } from "../mlflow.js";
import { checkSinks, isReport } from "../registry.js";
import { trackio } from "../trackio.js";
import { wandb } from "../wandb.js";
import { remoteSink } from "./remote-sink.js";
import type { Limits } from "./sender.js";
import { type Fault, type Got, linesOf, startServer } from "./testing-server.js";

const KEY = "key-0123456789abcdef";
const KINDS = {
  mlflow: { kind: mlflow, env: (url: string) => ({ MLFLOW_TRACKING_URI: url, MLFLOW_TRACKING_TOKEN: KEY }) },
  trackio: { kind: trackio, env: (url: string) => ({ TRACKIO_SERVER_URL: `${url}/?write_token=${KEY}` }) },
  wandb: { kind: wandb, env: (url: string) => ({ WANDB_BASE_URL: url, WANDB_API_KEY: KEY }) },
};
type Name = keyof typeof KINDS;
const NAMES = Object.keys(KINDS) as Name[];

/** Rests are short; a server that answers is given the time that a busy machine takes. */
const QUICK: Partial<Limits> = {
  ...{ collectMs: 1, restMs: 1, longestRestMs: 4, endTries: 8 },
  ...{ requestMs: 30_000, endMs: 60_000 },
};
/** For a server that hangs. */
const IMPATIENT: Partial<Limits> = { requestMs: 300, endTries: 2 };

const step = (at: number, loss: number): RunEvent => {
  const record: Partial<StepRecord> = { step: at, phase: "full", epoch: at / 10, loss, meanTokenAccuracy: 0.5 };
  const rest = { learningRate: 1e-5, gradNorm: 2, tokensPerSecond: 100, peakBytes: 1000, auxLoss: null, zLoss: null };
  return { kind: "step", ...record, ...rest } as RunEvent;
};
const evaluation: RunEvent = {
  ...{ kind: "eval", step: 2, epoch: 0.2, evalLoss: 3, evalPerplexity: 20, evalMeanTokenAccuracy: 0.25 },
  network: "trained",
};

interface Told {
  /** Warnings, and all that was said. */
  warnings: string[];
  said: string[];
}

interface Reporting {
  dir?: string;
  startStep?: number;
  events?: RunEvent[];
  end?: RunEnd;
  limits?: Partial<Limits>;
}

/** A whole run as its sink sees it. */
function report(t: TestContext, name: Name, url: string, given: Reporting = {}): Told {
  const { dir = folder(t), startStep = 0, events = [step(1, 5), step(2, 4), evaluation], end, limits = {} } = given;
  const told: Told = { warnings: [], said: [] };
  const { kind, env } = KINDS[name];
  const run = {
    ...{ dir, startStep, lineDue: false, evaluatesAgain: false, totalSteps: 3, name: "first" },
    params: { model: "tiny", learning_rate: 1e-5, report_to: [name] },
    out: { write: () => {} },
    say: (message: string, level: string) => {
      told.said.push(message);
      if (level === "warning") told.warnings.push(message);
    },
  };
  const sink = remoteSink(kind.remote, kind.remote.target(env(url)), run, { ...QUICK, ...limits });
  for (const event of events) sink.write(event);
  sink.close(end);
  for (const line of told.said) assert.ok(!line.includes(KEY), line);
  return told;
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "revmoe-remote-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** What a server has of each run: numbers by step and name, in their order. */
type Numbers = Record<string, (string | number)[][]>;
const numbersIn: Record<Name, (got: Got[]) => Numbers> = {
  mlflow: (got) =>
    byRun(
      got.flatMap(({ path, body }) =>
        path.endsWith("log-batch")
          ? ((body.metrics ?? []) as { key: string; value: number; step: number }[]).map(
              ({ key, value, step: at }) => [String(body.run_id), [at, key, value]] as const,
            )
          : [],
      ),
    ),
  trackio: (got) => {
    type Log = { run_id: string; step: number; metrics: Record<string, number>; log_id: string };
    const logs = got.flatMap(({ body }) => (body.kwargs as { logs: Log[] } | undefined)?.logs ?? []);
    const once = [...new Map(logs.map((log) => [log.log_id, log])).values()];
    return byRun(
      once.flatMap((log) =>
        Object.entries(log.metrics).map(([key, value]) => [log.run_id, [log.step, key, value]] as const),
      ),
    );
  },
  wandb: (got) => {
    const lines = new Map<string, [string, string]>();
    for (const each of got) {
      const { offset = 0 } =
        (each.body.files as Record<string, { offset: number }> | undefined)?.["wandb-history.jsonl"] ?? {};
      for (const [i, line] of linesOf(each).entries()) lines.set(`${each.path} ${offset + i}`, [each.path, line]);
    }
    return byRun(
      [...lines.values()].flatMap(([path, line]) => {
        const { "train/global_step": at, ...values } = JSON.parse(line.replaceAll(":NaN", ':"NaN"')) as Record<
          string,
          number
        >;
        return Object.entries(values)
          .filter(([key]) => !key.startsWith("_"))
          .map(([key, value]) => [path, [at, key, value]] as const);
      }),
    );
  },
};

function byRun(rows: (readonly [string, (string | number)[]])[]): Numbers {
  const found: Numbers = {};
  for (const [run, row] of rows) (found[run] ??= []).push(row);
  return found;
}

const [LOSS, EVAL_LOSS] = [
  { mlflow: "loss", trackio: "train/loss", wandb: "train/loss" },
  { mlflow: "eval_loss", trackio: "eval/loss", wandb: "eval/loss" },
];
/** Losses by step in the one run that the server has. */
function losses(name: Name, got: Got[]): (string | number)[][] {
  const runs = Object.values(numbersIn[name](got));
  assert.ok(runs.length <= 1, `${runs.length} runs`);
  return (runs[0] ?? [])
    .filter(([, key]) => key === LOSS[name] || key === EVAL_LOSS[name])
    .map(([at, , value]) => [at, value]);
}

const endOf: Record<Name, (got: Got[]) => unknown> = {
  mlflow: (got) => got.at(-1)?.body.status,
  wandb: (got) => got.at(-1)?.body.exitcode,
  trackio: () => null,
};

for (const name of NAMES) {
  test(`${name}: numbers, settings, the end, and a run that goes on as the same one`, async (t) => {
    const server = await startServer(t);
    const dir = folder(t);
    const first = report(t, name, server.url, { dir, end: "stopped" });
    assert.equal(first.said.length, 1, first.said.join("\n"));
    assert.match(first.said[0], new RegExp(`^${name}: reported to ${server.url}/`));
    assert.deepEqual(losses(name, await server.got()), [
      [1, 5],
      [2, 4],
      [2, 3],
    ]);
    assert.equal(endOf[name](await server.got()), { mlflow: "KILLED", wandb: 255, trackio: null }[name]);
    assert.ok(
      JSON.stringify(await server.got())
        .replaceAll("\\", "")
        .includes("tiny"),
      "settings",
    );
    assert.ok((await server.got()).every(({ key }) => key !== ""));
    assert.ok(isReport(`reported-${name}.json`) && existsSync(join(dir, `reported-${name}.json`)));

    const second = report(t, name, server.url, { dir, startStep: 2, events: [step(3, Number.NaN)] });
    assert.match(second.said[0], /goes on at /);
    assert.deepEqual(second.warnings, []);
    const all = await server.got();
    assert.deepEqual(losses(name, all).at(-1), [3, "NaN"]);
    assert.equal(losses(name, all).length, 4);
    assert.equal(endOf[name](all), { mlflow: "FINISHED", wandb: 0, trackio: null }[name]);
  });

  const passing: [string, Fault, Partial<Limits>?][] = [
    ["answers 500 at first", { path: "/", how: { status: 500 }, times: 3 }],
    ["answers 429 in the middle", { path: PATHS(name), how: { status: 429, body: { message: "slowly" } }, times: 2 }],
    ["takes a batch and does not say so", { path: PATHS(name), how: "lost", times: 1 }],
    ["hangs once", { path: "/", how: "hangs", times: 1 }, { requestMs: 3000 }],
  ];
  for (const [words, fault, limits] of passing) {
    test(`${name} ${words}: one warning, and everything is there once`, async (t) => {
      const server = await startServer(t, [fault]);
      const { warnings, said } = report(t, name, server.url, { limits });
      assert.equal(warnings.length, 1, warnings.join("\n"));
      assert.match(warnings[0], /fails \(.*\)\. Training goes on, and it is asked again\.$/);
      assert.ok(said.some((line) => line.endsWith("answers again")));
      const found = losses(name, await server.got()).map(String);
      assert.deepEqual([...new Set(found)], ["1,5", "2,4", "2,3"]);
      // MLflow has no ids of numbers: it knows one that comes twice by its time.
      if (name !== "mlflow") assert.equal(found.length, 3);
    });
  }

  const lasting: [string, Fault[], RegExp, number][] = [
    [
      "wants another key",
      [{ path: "/", how: { status: 401, body: { message: `no ${KEY}` } } }],
      /status 401.*Nothing more/,
      0,
    ],
    ["hangs for ever", [{ path: "/", how: "hangs" }], /fails \(no answer in 0\.3 s\)/, 0],
    [
      "takes no batch",
      [{ path: PATHS(name), how: { status: 413 } }],
      /status 413\. (What it does not take|Nothing more)/,
      0,
    ],
    ["is somewhere else", [{ path: "/", how: { status: 302 } }], /redirects to nowhere\. Nothing more/, 0],
  ];
  for (const [words, faults, message] of lasting) {
    test(`${name} ${words}: one warning, and the end says what is missing`, async (t) => {
      const server = await startServer(t, faults);
      const { warnings } = report(t, name, server.url, { limits: faults[0].how === "hangs" ? IMPATIENT : {} });
      assert.match(warnings[0], message);
      assert.match(
        warnings.at(-1) as string,
        /^\w+: 3 of 3 records were not sent to http.*metrics\.jsonl has all of them$/,
      );
      assert.equal(warnings.length, 2, warnings.join("\n"));
    });
  }

  test(`${name} is not there: one warning, what waits is bounded, and the end says what is missing`, async (t) => {
    const port = await freePort();
    const events = Array.from({ length: 20 }, (_, i) => step(i + 1, 1));
    const { warnings } = report(t, name, `http://127.0.0.1:${port}`, {
      events,
      limits: { mostWaiting: 5, endTries: 2 },
    });
    assert.match(warnings[0], /fails \(.*ECONNREFUSED/);
    assert.match(warnings[1], /20 of 20 records were not sent/);
    assert.equal(warnings.length, 2);
  });
}

/** Where numbers go. */
function PATHS(name: Name): string {
  return { mlflow: "log-batch", trackio: "bulk_log", wandb: "file_stream" }[name];
}

test("a server that is too slow for the end of a run is said to be slow", async (t) => {
  const server = await startServer(t, [{ path: "/", how: "hangs" }]);
  // The thread is still in its first request when the end has waited long enough.
  const { warnings } = report(t, "trackio", server.url, { limits: { requestMs: 60_000, endMs: -59_990 } });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /^trackio: 3 of 3 records were not sent to http:\S+, which is slow; /);
});

test("MLflow: a run whose making was not answered is found again, and one that was removed is made anew", async (t) => {
  const lost = await startServer(t, [{ path: "runs/create", how: "lost", times: 1 }]);
  const dir = folder(t);
  report(t, "mlflow", lost.url, { dir });
  const made = (got: Got[]): number => got.filter(({ path }) => path.endsWith("runs/create")).length;
  assert.equal(made(await lost.got()), 1);

  const gone = await startServer(t);
  const place = folder(t);
  writeFileSync(join(place, "reported-mlflow.json"), JSON.stringify({ url: gone.url, id: "removed" }));
  const { said } = report(t, "mlflow", gone.url, { dir: place, startStep: 2, events: [step(3, 1)] });
  assert.match(said[0], /reported to/);
  assert.equal(made(await gone.got()), 1);
});

test("an experiment of another name is made once", async (t) => {
  const server = await startServer(t);
  KINDS.mlflow.env = (url) => ({ MLFLOW_TRACKING_URI: url, MLFLOW_TRACKING_TOKEN: KEY, MLFLOW_EXPERIMENT_NAME: "x y" });
  t.after(() => {
    KINDS.mlflow.env = (url) => ({ MLFLOW_TRACKING_URI: url, MLFLOW_TRACKING_TOKEN: KEY });
  });
  report(t, "mlflow", server.url);
  report(t, "mlflow", server.url);
  const made = (await server.got()).filter(({ path }) => path.endsWith("experiments/create"));
  assert.deepEqual(
    made.map(({ body }) => body.name),
    ["x y"],
  );
});

test("another server than before gets a run of its own", async (t) => {
  const [one, other] = [await startServer(t), await startServer(t)];
  const dir = folder(t);
  report(t, "trackio", one.url, { dir });
  assert.match(report(t, "trackio", other.url, { dir, startStep: 2, events: [step(3, 1)] }).said[0], /reported to/);
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

test("what the environment lacks is said before anything is loaded, and no key is shown", () => {
  for (const [kind, env, message] of [
    [mlflow, {}, /report_to: mlflow needs the address of its server in MLFLOW_TRACKING_URI .*Set it\.$/],
    [mlflow, { MLFLOW_TRACKING_URI: `sqlite:///${KEY}` }, /MLFLOW_TRACKING_URI is no address/],
    [mlflow, { MLFLOW_TRACKING_URI: "databricks" }, /MLFLOW_TRACKING_URI is no address/],
    [trackio, {}, /TRACKIO_SERVER_URL/],
    [trackio, { TRACKIO_SERVER_URL: "http://127.0.0.1:1" }, /trackio needs a key .*TRACKIO_WRITE_TOKEN/],
    [trackio, { TRACKIO_SERVER_URL: "https://a-b.hf.space" }, /trackio needs a key .*HF_TOKEN/],
    [wandb, {}, /wandb needs a key \(expected WANDB_API_KEY\)/],
    [wandb, { WANDB_API_KEY: KEY, WANDB_MODE: "offline" }, /WANDB_MODE is offline.*metrics\.jsonl/],
    [mlflow, { MLFLOW_TRACKING_URI: `http://u:${KEY}%zz@127.0.0.1:9` }, /MLFLOW_TRACKING_URI: a % .*expected %25/],
    [mlflow, { MLFLOW_TRACKING_URI: `http://%E0%A4%A:${KEY}@127.0.0.1:9` }, /MLFLOW_TRACKING_URI: a % /],
    [wandb, { WANDB_API_KEY: KEY, WANDB_BASE_URL: `http://${KEY}%@127.0.0.1:9` }, /WANDB_BASE_URL: a % /],
    [
      mlflow,
      { MLFLOW_TRACKING_URI: "http://127.0.0.1:9", MLFLOW_TRACKING_TOKEN: `${KEY}\u0142` },
      /a key for mlflow has a line break or/,
    ],
    [trackio, { TRACKIO_SERVER_URL: `http://127.0.0.1:9/?write_token=${KEY}%E2%80%A6` }, /a key for trackio has/],
    [trackio, { TRACKIO_SERVER_URL: "https://a-b.hf.space", HF_TOKEN: `${KEY}\nx` }, /a key for trackio has/],
    [wandb, { WANDB_API_KEY: KEY, WANDB_BASE_URL: `ftp://${KEY}` }, /WANDB_BASE_URL is no address/],
  ] as const) {
    assert.throws(
      () => kind.remote.target(env),
      (failure: unknown) => {
        assert.ok(failure instanceof UserError);
        assert.match(failure.message, message);
        return !failure.message.includes(KEY);
      },
    );
  }
  assert.doesNotThrow(() => checkSinks(["none"]));
});

test("names and passwords of an address go into a header, and are shown nowhere", () => {
  const env = { MLFLOW_TRACKING_URI: "https://me:p%40ss@host.example/ml/" };
  const { url, headers, secrets } = mlflow.remote.target(env);
  assert.equal(url, "https://host.example/ml");
  assert.equal(headers.authorization, `Basic ${Buffer.from("me:p@ss").toString("base64")}`);
  assert.ok(secrets.includes("p@ss"));
});
