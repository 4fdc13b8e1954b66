// Processes as ranks: what they are told, whose lines are marked, and that the first that fails ends the others.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ALONE, type Collectives, onFirst, shareOf } from "./collectives.js";
import { launchRanks } from "./launch.js";

const PLACE = { nproc: 2, nnodes: 2, nodeRank: 1, host: "127.0.0.1", port: 4000 };

async function launched(script: string, place = PLACE): Promise<{ code: number; said: string }> {
  const said: string[] = [];
  const code = await launchRanks([process.execPath, "-e", script], place, { write: (text) => void said.push(text) });
  return { code, said: said.join("") };
}

test("each process is told which rank it is, as torchrun does", async () => {
  const { code, said } = await launched(
    "const { RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT } = process.env;" +
      "console.log(RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT)",
  );
  assert.equal(code, 0);
  assert.deepEqual(said.split("\n").sort(), [
    "",
    "[rank 2] 2 0 4 2 1 127.0.0.1 4000",
    "[rank 3] 3 1 4 2 1 127.0.0.1 4000",
  ]);
});

test("the first that fails ends the others, and gives the code", async () => {
  const waits = "setInterval(() => {}, 1000)";
  for (const [fails, code, how] of [
    ["process.exit(138)", 138, "code 138"],
    ["process.kill(process.pid, 'SIGKILL')", 137, "SIGKILL"],
    ["throw new Error('no')", 1, "code 1"],
  ] as const) {
    const ended = await launched(`if (process.env.RANK === "3") ${fails}; else ${waits}`);
    assert.equal(ended.code, code);
    assert.match(ended.said, new RegExp(`^revmoe launch: rank 3 ended with ${how}; the others are ended$`, "m"));
  }
});

test("micro-batches are shared out evenly, each to one rank, in order", () => {
  for (const [world, count] of [
    [2, 4],
    [3, 7],
    [4, 3],
    [5, 0],
  ]) {
    const shares = Array.from({ length: world }, (_, rank) => shareOf({ rank, world }, count));
    const sizes = shares.map(([first, end]) => end - first);
    assert.deepEqual([shares[0][0], shares[world - 1][1]], [0, count]);
    for (let rank = 1; rank < world; rank++) assert.equal(shares[rank][0], shares[rank - 1][1]);
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1);
  }
});

test("what rank 0 does alone, all know: its result, or its error", () => {
  /** Rank 1 of two, where rank 0 has said `first`. */
  const second = (first: unknown): Collectives => ({
    ...ALONE,
    rank: 1,
    world: 2,
    gather: (own) => [first as typeof own, own],
  });
  const never = (): string => assert.fail("rank 1 has nothing to do");
  assert.equal(onFirst(second({ value: "there" }), never), "there");
  assert.throws(() => onFirst(second({ message: "no room" }), never), /^UserError: rank 0: no room$/);
  assert.equal(
    onFirst(ALONE, () => 5),
    5,
  );
});
