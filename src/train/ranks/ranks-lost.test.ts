// A rank that is killed, or stands still: the other ends within the limit with one sentence and a code that makes launchers start again, and the run
// then started again ends in the bits of one that nothing befell. By the command line, in processes of their own.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { RankLostError } from "../../errors.js";
import { freePort } from "../../parallel/launch.js";
import { makeNcclStandIn } from "../../torch/comm/testing-nccl.js";
import { listCheckpoints } from "../../checkpoint/run/state.js";
import { makeWorkplace, settingsFor, weightsOf, type Workplace } from "../testing-run.js";
import { trainOnRanks } from "./testing-ranks.js";

const CLI = fileURLToPath(new URL("../../cli.js", import.meta.url));

interface Started {
  process: ChildProcess;
  said(): string;
  complained(): string;
  ended: Promise<number | null>;
}

function start(t: TestContext, words: string[], env: NodeJS.ProcessEnv): Started {
  const child = spawn(process.execPath, [CLI, ...words], { env: { ...process.env, ...env } });
  t.after(() => child.kill("SIGKILL"));
  const [out, err]: string[][] = [[], []];
  child.stdout.on("data", (text: Buffer) => out.push(String(text)));
  child.stderr.on("data", (text: Buffer) => err.push(String(text)));
  const ended = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)));
  return { process: child, said: () => out.join(""), complained: () => err.join(""), ended };
}

/** Two ranks of one run of as many micro-batches a step. */
async function startTwo(
  t: TestContext,
  place: Workplace,
  flags: Record<string, string | number>,
  env = {},
): Promise<Started[]> {
  const settings = {
    ...{ model: place.model, "train-file": place.rows, "output-dir": place.out(), threads: 1, "max-length": 64 },
    ...{ "compute-dtype": "float32", "per-device-train-batch-size": 1, "learning-rate": 5e-3, "save-steps": 2 },
    ...flags,
  };
  const words = ["train", ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`)];
  const port = await freePort();
  const names = (rank: number) => ({
    RANK: `${rank}`,
    WORLD_SIZE: "2",
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: `${port}`,
    ...env,
  });
  return [0, 1].map((rank) => start(t, words, names(rank)));
}

const made = async ({ said, ended }: Started, step: number): Promise<void> => {
  let over = false;
  void ended.then(() => (over = true));
  while (!said().includes(`step ${step}/`)) {
    assert.ok(!over, said());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const NCCL = { "rank-sums": "direct", "rank-transport": "nccl" };
const LAYOUTS: Record<string, string | number>[] = [
  { parameters: "device" },
  { parameters: "sharded" },
  { parameters: "sharded-disk" },
  { parameters: "device", "sequence-ranks": 2 },
  { parameters: "sharded", "share-experts": "rows" },
  { parameters: "sharded", ...NCCL },
];
for (const layout of LAYOUTS) {
  test(`a rank that is killed ends the other, and both go on from the last checkpoint with the same bits: ${JSON.stringify(layout)}`, (t) =>
    killEach(t, layout));
}

async function killEach(t: TestContext, layout: Record<string, string | number>): Promise<void> {
  const place = makeWorkplace(t);
  const env: Record<string, string> = "rank-transport" in layout ? { REVMOE_NCCL: makeNcclStandIn(t) } : {};
  // Long enough that the kill falls into it; where ranks share, often into a save, for which one reads of the other.
  const long = {
    ...{ "max-steps": 400, "rank-timeout": 60, "lr-scheduler-type": "constant", "warmup-steps": 1, ...layout },
    ...(layout.parameters === "device" ? {} : { "save-steps": 1 }),
  };
  // Each rank once, where what is done on them differs.
  for (const killed of Object.values(layout).join() === "sharded" ? [1, 0] : [1]) {
    const output = place.out(`killed-${killed}`);
    const ranks = await startTwo(t, place, { ...long, "output-dir": output }, env);
    await made(ranks[0], 3);
    ranks[killed].process.kill("SIGKILL");
    const other = ranks[1 - killed];
    assert.equal(await other.ended, RankLostError.exitCode, other.complained());
    const sentence = `^revmoe: rank ${1 - killed} of 2: rank ${killed} has ended or does not answer within 60 s, at step \\d+.*: [^\\n]*Start all again with resume: latest\\.\\n$`;
    assert.match(other.complained(), new RegExp(sentence));
    const kept = listCheckpoints(output);
    assert.ok(kept.length > 0);
    // As torchrun starts them again: with the words they had at first.
    const last = (kept.at(-1) as number) + 3;
    const again = await startTwo(
      t,
      place,
      { ...long, "output-dir": output, "max-steps": last },
      { TORCHELASTIC_RESTART_COUNT: "1", ...env },
    );
    for (const rank of again) assert.equal(await rank.ended, 0, rank.complained());
    assert.match(again[0].said(), new RegExp(`resuming after step ${last - 3};`));
    const names = Object.entries({ ...long, "max-steps": last }).map(([name, value]) => [
      name.replaceAll("-", "_"),
      value,
    ]);
    const settings = settingsFor(place, { ...Object.fromEntries(names), output_dir: place.out(`whole-${killed}`) });
    const [[whole]] = await trainOnRanks(place.folder, 2, [{ settings }]);
    assert.ok(weightsOf(join(output, "final")).equals(weightsOf(whole.outcome.folder)));
    assert.deepEqual(
      readdirSync(output).filter((name) => name.startsWith("working")),
      [],
    );
  }
}

test("a rank that stands still ends the other when the limit is over", async (t) => {
  const place = makeWorkplace(t);
  const [first, second] = await startTwo(t, place, { "max-steps": 10_000, "rank-timeout": 2 });
  await made(first, 1);
  second.process.kill("SIGSTOP");
  assert.equal(await first.ended, RankLostError.exitCode);
  assert.match(
    first.complained(),
    /rank 1 has ended or does not answer within 2 s, at step \d+.*: Timed out waiting 2000ms/,
  );
});
