// How long rows take to become tokens, with the code that a run uses. Prints one line of JSON; a second start takes
// them from the cache. For comparison: experiments/peers/data.py.
//   node experiments/data/make-rows.mjs rows.jsonl 100000
//   node experiments/data/prepare.mjs MODEL_FOLDER rows.jsonl [no-cache]
import { loadWithInput, openSource, readData, resolveSettings } from "revmoe";

const [model, train_file, cache] = process.argv.slice(2);
const { settings } = resolveSettings({
  flags: { model, train_file, output_dir: "unused", dataset_cache: cache !== "no-cache" },
});
const seconds = (since) => Math.round(performance.now() - since) / 1000;

const started = performance.now();
const loaded = loadWithInput(openSource(model));
const tokenizerSeconds = seconds(started);
const rows = await readData(settings, loaded);
const allSeconds = seconds(started);
const { user, system } = process.cpuUsage();
const { documents, report, fromCache } = rows;
// As an epoch reads them: one by one, in another order.
const reading = performance.now();
for (let i = 0; i < documents.length; i++) documents.document((i * 7919) % documents.length);
console.log(
  JSON.stringify({
    tool: "revmoe",
    rows: report.rows,
    tokens: report.tokens,
    trainedTokens: report.trainedTokens,
    fromCache,
    tokenizerSeconds,
    seconds: allSeconds,
    rowsPerSecond: Math.round(report.rows / allSeconds),
    cpuSeconds: Math.round((user + system) / 1e4) / 100,
    readSeconds: seconds(reading),
    peakMiB: Math.round(process.resourceUsage().maxRSS / 1024),
  }),
);
documents.close();
