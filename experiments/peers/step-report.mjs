// The tables of step.mjs: every row, and for each dtype and optimizer each of our methods compared with the best
// of theirs.

const median = (numbers) => {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
const table = (head, lines) => {
  console.log(`\n| ${head.join(" | ")} |\n|${" --- |".repeat(head.length)}`);
  for (const line of lines) console.log(`| ${line.join(" | ")} |`);
};

/** Median and best of seconds, median of processor seconds. */
function summary({ steps }) {
  const seconds = steps.map((step) => step.seconds);
  return {
    median: median(seconds),
    best: Math.min(...seconds),
    processor: median(steps.map(({ cpuSeconds }) => cpuSeconds)),
  };
}

export function report(rows, values) {
  const measured = rows.filter(({ failure }) => !failure).map((row) => ({ ...row, ...summary(row) }));
  const of = (side) => measured.find(({ who }) => who === side);
  console.log(
    `\n${values.size}, ${(measured[0].parameters / 1e6).toFixed(0)} M parameters, ${values["micro-batches"]} x ${values.tokens} tokens a step, ${values.threads} threads; ` +
      `libtorch ours ${of("ours")?.version ?? "-"}, theirs ${of("theirs")?.version ?? "-"}`,
  );
  table(
    [
      "who",
      "dtype",
      "optimizer",
      "variant",
      "state, bytes a parameter",
      "s a step",
      "best",
      "processor s",
      "peak resident",
      "first loss",
    ],
    measured.map((row) => [
      row.who,
      row.dtype,
      row.optimizer,
      row.variant,
      (row.stateBytes / row.parameters).toFixed(2),
      row.median.toFixed(2),
      row.best.toFixed(2),
      row.processor.toFixed(2),
      gib(row.peakBytes),
      row.firstLoss.toFixed(5),
    ]),
  );
  const pairs = [...new Set(measured.map(({ dtype, optimizer }) => `${dtype} ${optimizer}`))];
  const lines = pairs.flatMap((pair) => {
    const inPair = measured.filter(({ dtype, optimizer }) => `${dtype} ${optimizer}` === pair);
    const least = (side, figure) =>
      inPair.filter(({ who }) => who === side).reduce((a, b) => (a && a[figure] <= b[figure] ? a : b), undefined);
    const [theirs, small] = [least("theirs", "median"), least("theirs", "peakBytes")];
    const ratio = (figure, a, b) => (a && b ? (a[figure] / b[figure]).toFixed(2) : "-");
    const checkpoint = inPair.find(({ variant }) => variant === "checkpoint");
    return inPair
      .filter(({ who }) => who === "ours")
      .map((ours) => [
        pair,
        ours.variant,
        theirs?.variant ?? "-",
        ratio("median", ours, theirs),
        ratio("best", ours, theirs),
        ratio("processor", ours, theirs),
        ratio("peakBytes", ours, theirs),
        ratio("peakBytes", ours, small),
        ratio("median", ours, checkpoint),
        ratio("processor", ours, checkpoint),
      ]);
  });
  table(
    [
      "dtype, optimizer",
      "ours",
      "fastest of theirs",
      "time, ours / that",
      "best step",
      "processor time",
      "peak",
      "peak / smallest of theirs",
      "ours / our checkpoint, time",
      "processor time",
    ],
    lines,
  );
}
