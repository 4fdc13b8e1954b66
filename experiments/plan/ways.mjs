// Checks that the ways of `revmoe plan` keep their promises. Each printed command is planned again by the command line,
// with the same memory. No other random setting may be faster by more than a tenth, which is what a leaner setting must
// be worth; two tenths if it gives up more than the fastest. Times are the tool's own estimates.
//   node experiments/plan/ways.mjs [draws for each model and machine: 40] [seed: 1]
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { plan } from "revmoe";

const [draws = "40", seed = "1"] = process.argv.slice(2);
const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "revmoe-ways-"));

const released = (name) => fileURLToPath(new URL(`../../examples/released/${name}/config.json`, import.meta.url));
const MODELS = {
  ...Object.fromEntries(["qwen3-30b-a3b", "gpt-oss-20b", "mixtral-8x7b"].map((name) => [name, released(name)])),
  tiny: fileURLToPath(new URL("../../examples/tiny-moe/config.json", import.meta.url)),
};
const MACHINES = {
  "laptop, 16 GiB": { memory: "16GiB", disk: "200GiB" },
  "RTX 4090, 64 GiB": { gpu: "RTX 4090", memory: "64GiB", disk: "1TiB" },
  "RTX 3060, 32 GiB": { gpu: "RTX 3060", memory: "32GiB", disk: "500GiB" },
  "H100, 256 GiB": { gpu: "H100", memory: "256GiB", disk: "2TiB" },
  "no card, 128 GiB": { memory: "128GiB", disk: "500GiB" },
  "8 GiB card, 32 GiB": { gpu: "8GiB", memory: "32GiB", disk: "200GiB" },
};
const OPTIMIZERS = /** @type {const} */ (["adamw", "adamw8bit", "adafactor"]);
const [MOMENTUM, ORDINARY] = /** @type {const} */ ([["momentum"], ["ordinary"]]);
const STORES = /** @type {const} */ (["device", "disk", "host"]);
const METHODS = /** @type {const} */ (["store", "checkpoint", "checkpoint-offload", "reversible"]);

let state = Number(seed);
/** A whole number below `limit`, by Park and Miller's generator. @param {number} limit */
const below = (limit) => (state = (state * 48_271) % 2_147_483_647) % limit;
/** @template T @param {readonly T[]} from @returns {T} */
const pick = (from) => from[below(from.length)];

/** A random way to make the same step. @param {boolean} onCard */
function drawn(onCard) {
  const method = pick(METHODS);
  const parameters = method === "store" ? "device" : pick(onCard ? STORES : STORES.slice(0, 2));
  const [rows, steps] = pick([
    [4, 1],
    [2, 2],
    [1, 4],
  ]);
  const [tile, lossTile] = pick([[], [], [2048, 512], [512, 256], [128, 64]]);
  return {
    ...{ method, parameters, optimizer: pick(OPTIMIZERS) },
    coupling: pick(method === "reversible" ? MOMENTUM : ORDINARY),
    ...{ per_device_train_batch_size: rows, gradient_accumulation_steps: steps },
    ...(tile === undefined ? {} : { tile_tokens: tile, loss_tile_tokens: lossTile }),
    ...(method === "store" ? {} : { expert_group_size: pick([0, 0, 1, 2, 4, 16]) }),
    ...(parameters === "host" && pick([true, false]) ? { blocks_on_device: below(24) } : {}),
  };
}

/** How far down the tool's lists a choice is. @param {import("revmoe").PlannedWay["settings"]} settings */
const givesUp = ({ method = "reversible", optimizer = "adamw" }) =>
  Math.max(0, ["adamw", "adamw8bit", "adafactor"].indexOf(optimizer)) +
  (method === "reversible" ? OPTIMIZERS.length : 0);

const faults = [];
let [commands, others] = [0, 0];
for (const [name, model] of Object.entries(MODELS)) {
  for (const [on, machine] of Object.entries(MACHINES)) {
    const onCard = "gpu" in machine;
    const { ways, machine: found } = await plan({ model, ...machine });
    const at = `${name} on ${on}`;
    for (const { flags, deviceBytes, hostBytes, diskBytes } of ways) {
      const words = flags.split(" ").slice(2, -4);
      const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, "plan", ...words, "--json"], {
        encoding: "utf8",
      });
      const placed = status === 0 ? JSON.parse(stdout).placed : stderr;
      const wanted = { deviceBytes, hostBytes, diskBytes };
      if (JSON.stringify(placed) !== JSON.stringify(wanted)) faults.push(`${at}: ${flags}: ${JSON.stringify(placed)}`);
      commands++;
    }
    const fastest = ways.reduce((best, each) => (each.seconds < best.seconds ? each : best), ways[0]);
    let nearest = { ratio: Number.POSITIVE_INFINITY, words: "" };
    for (let i = 0; i < Number(draws); i++) {
      const settings = drawn(onCard);
      const other = await plan({ model, ...machine, ...settings, ...(onCard ? { device: "cuda" } : {}) });
      others++;
      if (other.ways.length === 0) continue;
      const [{ seconds, flags }] = other.ways;
      if (fastest === undefined) {
        faults.push(`${at}: nothing was found, and this fits: ${flags}`);
        break;
      }
      // A processor is measured again each time.
      const speed = onCard ? 1 : (found?.flops ?? 1) / (other.machine?.flops ?? 1);
      const ratio = seconds / fastest.seconds / Math.min(1, speed);
      if (ratio < nearest.ratio) nearest = { ratio, words: flags };
      const least = givesUp(settings) > givesUp(fastest.settings) ? 1 / 1.1 ** 2 : 1 / 1.1;
      if (ratio < least) faults.push(`${at}: ${ratio.toFixed(2)} of the fastest: ${flags}`);
    }
    console.log(
      `${at}: ${ways.length} ways; the fastest that was drawn: ${nearest.ratio.toFixed(2)} of the first's time`,
    );
  }
}
rmSync(folder, { recursive: true });
console.log(`${commands} commands planned again, ${others} other settings; faults: ${faults.length}`);
for (const fault of faults) console.log(`  ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;
