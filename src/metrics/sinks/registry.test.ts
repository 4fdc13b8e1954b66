// Sinks as a run opens them: what is always there, and that one which fails ends nothing.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../errors.js";
import { METRICS_FILE } from "./jsonl.js";
import { isReport, openSinks, REPORT_TO, sayingFailures } from "./registry.js";

test("every run has the console and metrics.jsonl, whatever report_to says", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "revmoe-sinks-"));
  t.after(() => rmSync(dir, { recursive: true }));
  let text = "";
  const sink = openSinks(["none"], {
    dir,
    startStep: 0,
    lineDue: false,
    evaluatesAgain: false,
    ...{ totalSteps: 3, name: "run", params: {} },
    out: { write: (part) => (text += part) },
  });
  sink.write({ kind: "message", step: 1, message: "hello", level: "info" });
  sink.close();
  assert.equal(text, "hello\n");
  assert.equal(JSON.parse(readFileSync(join(dir, METRICS_FILE), "utf8")).message, "hello");
  assert.equal(REPORT_TO[0], "none");
  assert.ok(!REPORT_TO.includes("console") && !REPORT_TO.includes("jsonl"));
});

test("what a sink leaves in a run's folder is known, and nothing else is", () => {
  for (const name of ["metrics.jsonl", "metrics.jsonl.tmp"]) assert.ok(isReport(name), name);
  for (const name of ["metrics.json", "my-metrics.jsonl", "notes.txt", "final"]) assert.ok(!isReport(name), name);
});

test("a sink that cannot begin ends the run before its first step", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "revmoe-sinks-"));
  t.after(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, METRICS_FILE));
  assert.throws(
    () =>
      openSinks(["none"], {
        dir,
        startStep: 1,
        lineDue: false,
        evaluatesAgain: false,
        ...{ totalSteps: 3, name: "run", params: {} },
        out: { write: () => {} },
      }),
    (failure: unknown) =>
      failure instanceof UserError && /metrics\.jsonl: a folder has this name/.test(failure.message),
  );
  assert.ok(existsSync(dir));
});

test("a sink that fails is said once, and once when it works again", () => {
  const said: string[] = [];
  let broken = true;
  const written: number[] = [];
  const sink = sayingFailures(
    {
      write: ({ step }) => {
        if (broken) throw new Error("the network is down");
        written.push(step);
      },
      close: () => {
        throw new Error("gone.");
      },
    },
    "somewhere",
    (message) => said.push(message),
  );
  const event = (step: number) => ({ kind: "message", step, message: "", level: "info" }) as const;
  for (const step of [1, 2]) sink.write(event(step));
  broken = false;
  for (const step of [3, 4]) sink.write(event(step));
  sink.close();
  assert.deepEqual(written, [3, 4]);
  assert.deepEqual(said, [
    "somewhere: the network is down. Training goes on; events are missing until it is written.",
    "somewhere is written again; 2 events are missing",
    "somewhere: gone. Its last events may be missing.",
  ]);
});
