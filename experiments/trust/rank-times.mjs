// Compares what `revmoe plan --link` says of a step of several ranks with what it takes:
//   node experiments/trust/rank-times.mjs [rounds=3]
// 2 and 4 ranks on this machine over loopback, in each layout, in turns; medians of their steps. The link's speed is
// that of a socket of this machine, measured first. The time of computing is that of as many independent processes side
// by side: ranks on one machine share its cores, which the plan does not know. Prints a step's time relative to that,
// measured and planned.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const GOLDEN = fileURLToPath(new URL("../../test/golden", import.meta.url));
const rounds = Number(process.argv[2] ?? 3);
const LAYOUTS = ["device", "sharded", "sharded-disk"].flatMap((parameters) => [
  { parameters, rank_sums: "ordered" },
  { parameters, rank_sums: "direct" },
  ...(parameters === "device" ? [] : [{ parameters, rank_sums: "direct", share_experts: "rows" }]),
]);
const STEPS = 6;
/** The first steps are slower, because memory and files are touched for the first time. */
const SKIPPED = 2;

const folder = mkdtempSync(join(tmpdir(), "revmoe-rank-times-"));
const model = join(folder, "model");
mkdirSync(model);
cpSync(join(GOLDEN, "letters/tokenizer.json"), join(model, "tokenizer.json"));
const tiny = JSON.parse(readFileSync(join(GOLDEN, "hf-tiny/config.json"), "utf8"));
const layers = 8;
writeFileSync(
  join(model, "config.json"),
  JSON.stringify({
    ...tiny,
    ...{
      hidden_size: 256,
      num_hidden_layers: layers,
      num_experts: 16,
      moe_intermediate_size: 256,
      mlp_only_layers: [],
    },
    ...{ shared_expert_intermediate_size: 192, layer_types: new Array(layers).fill("full_attention"), vocab_size: 512 },
  }),
);
const rows = join(folder, "rows.jsonl");
const text = (i) => Array.from({ length: 60 }, (_, k) => `The sum of ${i} and ${k} is ${i + k}.`).join(" ");
writeFileSync(rows, Array.from({ length: 40 }, (_, i) => `${JSON.stringify({ text: text(i) })}\n`).join(""));
const WORK = {
  ...{ model, threads: 1, "max-length": 256, "per-device-train-batch-size": 1, "compute-dtype": "float32" },
  ...{ "weights-dtype": "bfloat16" },
};

/** @returns {Promise<string>} what it printed */
const revmoe = (...words) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...words]);
    let [said, complained] = ["", ""];
    child.stdout.on("data", (chunk) => (said += chunk));
    child.stderr.on("data", (chunk) => (complained += chunk));
    child.on("close", (code) => (code === 0 ? resolve(said) : reject(new Error(`${words.join(" ")}: ${complained}`))));
  });
const flags = (settings) => Object.entries(settings).map(([name, value]) => `--${name.replaceAll("_", "-")}=${value}`);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Bytes per second through a socket of this machine. */
const loopback = () =>
  new Promise((resolve) => {
    const bytes = 2 ** 29;
    const server = createServer((socket) => {
      const started = performance.now();
      let got = 0;
      socket.on("data", (chunk) => {
        got += chunk.length;
        if (got < bytes) return;
        socket.destroy();
        server.close();
        resolve((1000 * got) / (performance.now() - started));
      });
    }).listen(0, "127.0.0.1", () => {
      const socket = connect(/** @type {import("node:net").AddressInfo} */ (server.address()).port, "127.0.0.1");
      socket.on("error", () => {});
      const block = Buffer.alloc(2 ** 20);
      const send = () => {
        while (!socket.destroyed && socket.write(block));
        if (!socket.destroyed) socket.once("drain", send);
      };
      socket.on("connect", send);
    });
  });

/**
 * Seconds of the steps of a run with `count` ranks; or, without a layout, of `count` independent runs at the same time.
 */
async function measure(count, layout) {
  const run = { ...WORK, "train-file": rows, "init-weights": "random", "max-steps": STEPS };
  const output = (i) => join(folder, `run-${i}`);
  const words = (i) => ["train", ...flags({ ...run, ...layout, "output-dir": output(i) })];
  const outputs = layout === null ? Array.from({ length: count }, (_, i) => i) : [0];
  if (layout === null) await Promise.all(outputs.map((i) => revmoe(...words(i))));
  else await revmoe("launch", "--nproc", `${count}`, ...words(0));
  return outputs.flatMap((i) => {
    const lines = readFileSync(join(output(i), "metrics.jsonl"), "utf8")
      .trim()
      .split("\n");
    rmSync(output(i), { recursive: true });
    const steps = lines.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "step");
    return steps.slice(SKIPPED).map(({ stepMs }) => stepMs / 1000);
  });
}

const link = await loopback();
console.log(`a socket carries ${(link / 1e9).toFixed(2)} GB/s`);
for (const ranks of [2, 4]) {
  const cases = [null, ...LAYOUTS];
  const measured = cases.map(() => []);
  for (let round = 0; round < rounds; round++)
    for (const [i, layout] of cases.entries()) measured[i].push(...(await measure(ranks, layout)));
  const [apart] = measured.map(median);
  const planOf = async (speed) => {
    const words = flags({ ...WORK, ranks, link: `${(speed / 1e9).toFixed(3)}GB/s` });
    const { layouts } = JSON.parse(await revmoe("plan", ...words, "--json"));
    // Independent processes update everything, as replicas do.
    return { layouts, computing: layouts.find(({ settings }) => settings.parameters === "device").computing };
  };
  const { computing } = await planOf(link);
  console.log(`${ranks} processes by themselves: ${apart.toFixed(3)} s a step; planned ${computing.toFixed(3)} s`);
  // A link whose ratio to the planned computing is that of this link to the real computing.
  const { layouts, computing: planned } = await planOf((link * apart) / computing);
  for (const { name, settings, exchange, hidden, seconds } of layouts) {
    const isMeant = (layout) => layout && Object.entries(layout).every(([key, value]) => settings[key] === value);
    const taken = median(measured[cases.findLastIndex(isMeant)]);
    const [is, says] = [taken / apart, seconds / planned];
    console.log(
      `${ranks} ranks, ${name}: ${taken.toFixed(3)} s, ${is.toFixed(2)} of that; planned ${says.toFixed(2)} (link ${(exchange / planned).toFixed(2)}, ` +
        `${Math.round(100 * hidden)} % hidden); measured / planned ${(is / says).toFixed(2)}`,
    );
  }
}
rmSync(folder, { recursive: true, force: true });
