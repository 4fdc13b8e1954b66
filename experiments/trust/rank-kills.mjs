// Two ranks of one run; again and again one is killed at a random moment:
//   node experiments/trust/rank-kills.mjs [kills=20] [seed=1] [parameters...]
// The tiny model of test/golden, with a checkpoint after every step. After each kill the other rank must end by itself
// with code 138 and one sentence; then both are started again as torchrun does. At the end the weights must equal those
// of an undisturbed run. Prints a line per layout; exits with 1 on any failure.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const [wanted, seed] = [Number(process.argv[2] ?? 20), Number(process.argv[3] ?? 1)];
const layouts = process.argv.length > 4 ? process.argv.slice(4) : ["device", "sharded", "sharded-disk"];
const LOST = 138;
const MOST_WAIT_MS = 2500;

let random = seed;
const draw = () => (random = (random * 48_271) % 2_147_483_647) / 2_147_483_647;

const folder = mkdtempSync(join(tmpdir(), "revmoe-rank-kills-"));
const model = join(folder, "model");
mkdirSync(model);
for (const file of ["hf-tiny/config.json", "hf-tiny/model.safetensors", "letters/tokenizer.json"])
  cpSync(join(GOLDEN, file), join(model, file.split("/")[1]));
const rows = join(folder, "rows.jsonl");
const texts = Array.from({ length: 14 }, (_, i) => `{"text": "The sum of ${i} and ${i % 4} is ${i + (i % 4)}."}\n`);
writeFileSync(rows, texts.join(""));

/** @returns {Promise<number>} */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === "object" ? address.port : 0));
    });
  });

/** Starts both ranks; `restarts` is torchrun's count. */
async function start(parameters, output, restarts) {
  const port = `${await freePort()}`;
  const words = {
    ...{ model, "train-file": rows, "output-dir": output, threads: 1, "max-length": 64, "compute-dtype": "float32" },
    ...{
      "per-device-train-batch-size": 1,
      "learning-rate": 5e-3,
      "max-steps": 40,
      "save-steps": 1,
      "save-total-limit": 2,
    },
    ...{ "max-grad-norm": 0.5, "rank-timeout": 120, parameters },
  };
  const args = [CLI, "train", ...Object.entries(words).map(([name, value]) => `--${name}=${value}`)];
  return [0, 1].map((rank) => {
    const env = { RANK: `${rank}`, WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1", MASTER_PORT: port };
    const more = restarts > 0 ? { TORCHELASTIC_RESTART_COUNT: `${restarts}` } : {};
    const child = spawn(process.execPath, args, { env: { ...process.env, ...env, ...more } });
    const out = { child, said: "", complained: "", code: undefined };
    child.stdout.on("data", (text) => (out.said += text));
    child.stderr.on("data", (text) => (out.complained += text));
    out.ended = new Promise((resolve) => child.on("close", (code) => resolve((out.code = code))));
    return out;
  });
}

/**
 * Waits until the first rank has saved something in this life, because a run cannot continue without it, and then a
 * random time; returns false if that rank ended before.
 */
async function moment(first) {
  while (!first.said.includes("saved ")) {
    if (first.code !== undefined) return false;
    await sleep(10);
  }
  await sleep(draw() * MOST_WAIT_MS);
  return first.code === undefined;
}

const weightsOf = (output) => readFileSync(join(output, "final", "model.safetensors"));
let failures = 0;
const fail = (what) => {
  failures++;
  console.log(`  ${what}`);
};

for (const parameters of layouts) {
  const undisturbed = join(folder, `${parameters}-whole`);
  for (const rank of await start(parameters, undisturbed, 0))
    if ((await rank.ended) !== 0) throw new Error(`an undisturbed run failed: ${rank.complained}`);
  let [kills, runs] = [0, 0];
  while (kills < wanted) {
    const output = join(folder, `${parameters}-${runs++}`);
    for (let restarts = 0; !existsSync(join(output, "final")); restarts++) {
      const ranks = await start(parameters, output, restarts);
      const killed = draw() < 0.5 ? 0 : 1;
      if (kills < wanted && (await moment(ranks[0]))) {
        ranks[killed].child.kill("SIGKILL");
        kills++;
        const other = ranks[1 - killed];
        const code = await other.ended;
        await ranks[killed].ended;
        if (code === 0 && existsSync(join(output, "final"))) continue;
        const sentences = other.complained.trim().split("\n");
        if (code !== LOST || sentences.length !== 1) fail(`rank ${1 - killed} ended with ${code}: ${other.complained}`);
      } else {
        for (const rank of ranks) if ((await rank.ended) !== 0) fail(`a run failed: ${rank.complained}`);
        if (failures > 0) break;
      }
    }
    if (failures > 0) break;
    if (!weightsOf(output).equals(weightsOf(undisturbed))) fail(`${output}: other weights than undisturbed`);
    const left = readdirSync(output).filter((name) => name.startsWith("working"));
    if (left.length > 0) fail(`${output}: ${left.join(", ")} left behind`);
  }
  console.log(`parameters ${parameters}: ${kills} kills in ${runs} runs, ${failures} failures`);
}
if (failures === 0) rmSync(folder, { recursive: true, force: true });
process.exit(failures > 0 ? 1 : 0);
