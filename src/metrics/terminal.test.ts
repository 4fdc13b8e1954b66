import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, openSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { visibleText } from "../format.js";
import { consoleSink } from "./sinks/console.js";
import { openTerminal } from "./terminal.js";

const CLEAR = "\r\x1b[2K";
const fails = (code: string): never => {
  throw Object.assign(new Error(code), { code });
};

/** A terminal that keeps what is written, for both descriptors together. */
function recorded(tty: boolean): ReturnType<typeof openTerminal> & { text(): string } {
  let text = "";
  const write = (_fd: number, bytes: Uint8Array): number => {
    text += Buffer.from(bytes).toString();
    return bytes.length;
  };
  return { ...openTerminal(write, () => tty), text: () => text };
}

test("a line that is printed beside the progress line never runs into it, from stdout or stderr", () => {
  for (const door of ["out", "err"] as const) {
    const screen = recorded(true);
    const sink = consoleSink({ out: { ...screen.out, columns: 40 }, totalSteps: 1, env: { NO_COLOR: "1" } });
    const speed = {
      learningRate: 5.5e-6,
      loss: 2,
      tokensPerSecond: 1,
      stepMs: 1,
      peakBytes: 1,
      auxLoss: null,
      zLoss: null,
      meanTokenAccuracy: null,
    };
    sink.write({ kind: "step", step: 1, phase: "full", ...speed } as never);
    screen[door].write("peak of a step: 3 GiB\n");
    assert.equal(screen.text(), `${CLEAR}step 1/1  loss 2.0000  left 0ms\npeak of a step: 3 GiB\n`);
  }
});

test("a cleared line and a finished one need no newline; apart from a terminal nothing is added", () => {
  for (const [begun, tty] of [
    [CLEAR, true],
    ["done\n", true],
    ["text that goes on", false],
  ] as const) {
    const screen = recorded(tty);
    screen.out.raw?.(begun);
    screen.err.write("next\n");
    assert.equal(screen.text(), `${begun}next\n`);
  }
});

test("control characters reach no terminal but through the door for our own", () => {
  for (const [given, shown] of [
    ["\x1b[31mred\x07\n", "\\x1b[31mred\\x07\n"],
    ["a\u009b2Jb\x7f\tc\n", "a\\u009b2Jb\\u007f\tc\n"],
    ["safe\u202Egnp.exe\u2066\u061c\n", "safe\\u202egnp.exe\\u2066\\u061c\n"],
  ]) {
    const screen = recorded(false);
    screen.out.write(given);
    assert.equal(screen.text(), shown);
    assert.equal(JSON.parse(visibleText(JSON.stringify(given))), given);
  }
});

test("what cannot be written is dropped, later lines come again on a line of their own, and the loss is known", () => {
  for (const [code, lost] of [
    ["ENOSPC", "ENOSPC"],
    ["EIO", "EIO"],
    ["EPIPE", null],
  ] as const) {
    let text = "";
    let room = 10;
    const write = (_fd: number, bytes: Uint8Array): number => {
      if (room === 0) fails(code);
      const count = Math.min(room, bytes.length);
      text += Buffer.from(bytes.subarray(0, count)).toString();
      room -= count;
      return count;
    };
    const { out, lost: lostOf } = openTerminal(write, () => false);
    out.write("step 1\n");
    out.write("step 2\n");
    out.write("step 3\n");
    room = 100;
    out.write("step 4\n");
    assert.equal(text, "step 1\nste\nstep 4\n");
    assert.equal(lostOf(), lost);
  }
});

test("a pipe that is full for a moment loses nothing", () => {
  let text = "";
  let refusals = 3;
  const write = (_fd: number, bytes: Uint8Array): number => {
    if (refusals-- > 0) fails("EAGAIN");
    text += Buffer.from(bytes).toString();
    return bytes.length;
  };
  const { out, lost } = openTerminal(write, () => false);
  out.write("step 1\n");
  assert.deepEqual([text, lost()], ["step 1\n", null]);
});

test("a full stdout of a command is said, and no stack", { skip: !existsSync("/dev/full") }, async () => {
  const cli = fileURLToPath(new URL("../cli.js", import.meta.url));
  const child = spawn(process.execPath, [cli, "--help"], { stdio: ["ignore", openSync("/dev/full", "w"), "pipe"] });
  let err = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (err += text));
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.deepEqual(
    [code, err],
    [1, "revmoe: stdout could not be written (ENOSPC): what was printed there is not complete.\n"],
  );
});
