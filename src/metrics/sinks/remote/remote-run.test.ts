// `revmoe train` with servers in report_to: what they get of a run that is stopped and goes on, and that a key stays where it was given.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { makeWorkplace, type Workplace } from "../../../train/testing-run.js";
import { startServer } from "./testing-server.js";

const CLI = fileURLToPath(new URL("../../../cli.js", import.meta.url));
const KEY = "key-0123456789abcdef";

async function train({ model, rows, out }: Workplace, env: Record<string, string>, more: string[], stopAt?: RegExp) {
  const words = ["train", "--model", model, "--train-file", rows, "--output-dir", out(), "--max-length", "64"];
  const rest = ["--per-device-train-batch-size", "1", "--threads", "1", "--compute-dtype", "float32", ...more];
  const child = spawn(process.execPath, [CLI, ...words, ...rest], { env: { ...process.env, ...env } });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      const before = said;
      said += text;
      if (stopAt?.test(said) && !stopAt.test(before)) child.kill("SIGINT");
    });
  const [code] = (await once(child, "close")) as [number];
  return { code, said };
}

test("a run that is stopped and goes on is one run on every server, and no key is written or printed", async (t) => {
  const place = makeWorkplace(t);
  const server = await startServer(t);
  const env = {
    ...{
      MLFLOW_TRACKING_URI: server.url.replace("//", `//me:${KEY}@`),
      WANDB_BASE_URL: server.url,
      WANDB_API_KEY: KEY,
    },
    ...{ TRACKIO_SERVER_URL: server.url, TRACKIO_WRITE_TOKEN: KEY },
  };
  const reporting = ["--report-to", "mlflow,trackio,wandb", "--run-name", "mine"];
  const stopped = await train(place, env, ["--max-steps", "5000", ...reporting], /step +3\//);
  assert.equal(stopped.code, 130, stopped.said);
  const states = async () =>
    (await server.got()).filter(({ path }) => path.endsWith("runs/update")).map(({ body }) => body.status);
  assert.deepEqual(await states(), ["KILLED"]);
  const steps = readdirSync(place.out()).map((name) => Number(/^checkpoint-(\d+)$/.exec(name)?.[1] ?? 0));
  const last = Math.max(...steps);
  const ended = await train(place, env, ["--max-steps", String(last + 2), "--resume", "latest", ...reporting]);
  assert.equal(ended.code, 0, ended.said);
  assert.deepEqual(await states(), ["KILLED", "RUNNING", "FINISHED"]);

  const got = await server.got();
  assert.equal(got.filter(({ path }) => path.endsWith("runs/create")).length, 1);
  const made = got.find(({ path }) => path.endsWith("runs/create"));
  assert.equal(made?.body.run_name, "mine");
  const losses = got
    .filter(({ path }) => path.endsWith("log-batch"))
    .flatMap(({ body }) => (body.metrics ?? []) as { key: string; step: number; value: number }[])
    .filter(({ key }) => key === "loss")
    .map(({ step, value }) => [step, value]);
  const lines = readFileSync(join(place.out(), "metrics.jsonl"), "utf8").trim().split("\n");
  const events = lines.map((line) => JSON.parse(line) as { kind: string; step: number; loss: number });
  assert.deepEqual(
    losses,
    events.filter(({ kind }) => kind === "step").map(({ step, loss }) => [step, loss]),
  );
  const params = got.flatMap(({ body }) => (body.params ?? []) as { key: string; value: string }[]);
  assert.ok(params.some(({ key, value }) => key === "max_steps" && value === "5000"));
  for (const text of [
    stopped.said,
    ended.said,
    JSON.stringify(params),
    readFileSync(join(place.out(), "config.json"), "utf8"),
  ])
    assert.ok(!text.includes(KEY));
});

test("what a server needs is asked for before anything is loaded or made", async (t) => {
  const place = makeWorkplace(t);
  const { code, said } = await train(place, { MLFLOW_TRACKING_URI: "" }, ["--report-to", "mlflow"]);
  assert.equal(code, 2);
  assert.match(said, /^revmoe: report_to: mlflow needs the address of its server in MLFLOW_TRACKING_URI [^\n]*\n$/);
  assert.ok(!existsSync(place.out()));
});
