// How long rows take to become tokens, by the code that a run uses. Prints one line of JSON; a second start takes them from the
// cache. Beside it: experiments/peers/data.py.
//   node experiments/data/make-rows.mjs rows.jsonl 100000
//   node experiments/data/prepare.mjs MODEL_FOLDER rows.jsonl [no-cache]
import { readFileSync } from "node:fs";
import { prepareRows } from "revmoe";

const [model, file, cache] = process.argv.slice(2);
const seconds = (since) => Math.round((performance.now() - since) / 10) / 100;
const started = performance.now();
const rows = await prepareRows({ model, train_file: file, dataset_cache: cache !== "no-cache" });
const preparedSeconds = seconds(started);
// As an epoch reads them: one by one, in another order.
const read = performance.now();
let tokens = 0;
for (let i = 0; i < rows.documents.length; i++)
  tokens += rows.documents.document((i * 7919) % rows.documents.length).tokens.length;
const { user, system } = process.resourceUsage ? process.cpuUsage() : {};
console.log(
  JSON.stringify({
    tool: "revmoe",
    rows: rows.report.rows,
    tokens,
    fromCache: rows.fromCache,
    seconds: preparedSeconds,
    rowsPerSecond: Math.round(rows.report.rows / preparedSeconds),
    cpuSeconds: Math.round((user + system) / 1e4) / 100,
    readSeconds: seconds(read),
    peakMiB: Math.round(process.resourceUsage().maxRSS / 1024),
    rssMiB: Math.round(Number(/VmRSS:\s*(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) / 1024),
  }),
);
rows.documents.close();
