// `npm run fuzz`: mutated inputs for every reader, and a table of the outcomes. Exit code 1 if any input was neither
// accepted nor refused.
import { parseArgs } from "node:util";

import { UserError } from "../errors.js";
import { formatBytes } from "../format.js";
import { readerNamed } from "./inputs.js";
import { READERS } from "./registry.js";
import { type Counts, fuzz } from "./supervisor.js";

// A wrong name or number ends the program as it ends `revmoe`.
process.on("uncaughtException", (failure) => {
  console.error(failure instanceof UserError ? `fuzz: ${failure.message}` : failure);
  process.exit(failure instanceof UserError ? 2 : 1);
});

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
    reader: { type: "string", multiple: true },
    corpus: { type: "string", default: "fuzz-findings" },
  },
});
const [total, seed] = [Number(values.inputs), Number(values.seed)];
if (!(Number.isSafeInteger(total) && total > 0 && Number.isSafeInteger(seed) && seed >= 0)) {
  throw new UserError(
    `--inputs ${values.inputs} --seed ${values.seed}: not possible (expected whole numbers, and at least one input).`,
  );
}
const readers = values.reader?.map(readerNamed) ?? READERS;
const shares = readers.reduce((sum, { share = 1 }) => sum + share, 0);

const table: Counts[] = [];
for (const reader of readers) {
  const inputs = Math.ceil((total * (reader.share ?? 1)) / shares);
  const counts = await fuzz(reader, { seed, inputs, corpus: values.corpus }, ({ index, kind, what }) =>
    console.error(`${reader.name}, input ${index}: ${kind}: ${what}`),
  );
  table.push(counts);
  console.error(`${reader.name}: ${inputs} inputs, ${counts.accepted} taken, ${counts.refused} refused`);
}

const rows = table.map(({ reader, inputs, accepted, refused, found, peakBytes, slowestMs }) => [
  reader,
  ...[inputs, accepted, refused, found["raw error"], found.hang, found.crash, found.memory].map(String),
  formatBytes(peakBytes),
  `${(slowestMs / 1000).toFixed(2)} s`,
]);
const sums = [1, 2, 3, 4, 5, 6, 7].map((column) => String(rows.reduce((sum, row) => sum + Number(row[column]), 0)));
const heads = [
  "reader",
  "inputs",
  "taken",
  "refused",
  "raw errors",
  "hangs",
  "crashes",
  "over 2 GiB",
  "peak memory",
  "slowest",
];
for (const row of [heads, heads.map(() => "---"), ...rows, ["all", ...sums, "", ""]])
  console.log(`| ${row.join(" | ")} |`);
process.exitCode = table.some(({ found }) => Object.values(found).some((count) => count > 0)) ? 1 : 0;
