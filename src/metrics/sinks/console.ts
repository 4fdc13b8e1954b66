// Shows a run to a person: on a terminal as one progress line, rewritten in place, with evaluations and messages on
// lines of their own above it; elsewhere as a plain line per event. Writes only to the given output and owns nothing
// else.
import { cutText, formatBytes, formatCount, formatDuration, visibleText } from "../../format.js";
import { canColor, canRedraw, type Output, writeRaw } from "../output.js";
import type { EvalRecord, MessageRecord, SampleRecord, Sink, StepRecord } from "../record.js";
import type { SinkKind } from "./sink.js";

export interface ConsoleOptions {
  out: Output;
  totalSteps: number;
  env?: Readonly<Record<string, string | undefined>>;
}

export const consoleKind: SinkKind = {
  name: "console",
  about: "a progress line, and evaluations and messages above it",
  always: true,
  open: ({ out, totalSteps }) => consoleSink({ out, totalSteps, env: process.env }),
};

const BOLD = "\x1b[1m";
const DIM = "\x1b[2m";
const YELLOW = "\x1b[33m";
const PLAIN = "\x1b[0m";
const CLEAR_LINE = "\r\x1b[2K";
const GAP = "  ";

export function consoleSink({ out, totalSteps, env }: ConsoleOptions): Sink {
  const redraw = canRedraw(out, env);
  const color = canColor(out, env);
  const timeLeft = estimator(totalSteps);
  let last: { record: StepRecord; leftMs: number } | null = null;

  const lineOf = (fields: string[]): string => (color ? fields.map(paintField) : fields).join(GAP);
  const drawProgress = (): void => {
    if (!last) return;
    // The last column stays free, because writing into it makes some terminals wrap. Some report 0 columns if they do
    // not know.
    const fields = fitted(progressFields(last.record, totalSteps, last.leftMs), (out.columns || 80) - 1);
    writeRaw(out, CLEAR_LINE + lineOf(fields));
  };
  const above = (line: string, style: string): void => {
    const painted = color && style !== "" ? `${style}${line}${PLAIN}` : line;
    writeRaw(out, redraw && last ? `${CLEAR_LINE}${painted}\n` : `${painted}\n`);
    if (redraw) drawProgress();
  };

  return {
    write: (event) => {
      if (event.kind === "eval") above(evalLine(event), BOLD);
      else if (event.kind === "sample") above(sampleLine(event), "");
      else if (event.kind === "message") above(messageLine(event), event.level === "warning" ? YELLOW : "");
      else {
        last = { record: event, leftMs: timeLeft(event) };
        if (redraw) drawProgress();
        else above(lineOf(progressFields(event, totalSteps, last.leftMs)), "");
      }
    },
    close: () => {
      if (out.endLine) out.endLine();
      else if (redraw && last) writeRaw(out, "\n");
      last = null;
    },
  };
}

/** The parts of the progress line, the most important first; a narrow terminal drops parts from the end. */
function progressFields(record: StepRecord, totalSteps: number, leftMs: number): string[] {
  return [
    `step ${record.step}/${totalSteps}`,
    ...(record.phase === "full" ? [] : [record.phase]),
    `${record.phase === "distillation" ? "kl" : "loss"} ${formatLoss(record.loss)}`,
    ...(record.meanTokenAccuracy === null ? [] : [`acc ${formatShare(record.meanTokenAccuracy)}`]),
    ...(record.auxLoss === null ? [] : [`aux ${formatLoss(record.auxLoss)}`]),
    ...(record.zLoss === null ? [] : [`z ${formatLoss(record.zLoss)}`]),
    `left ${formatDuration(leftMs)}`,
    `${formatSpeed(record.tokensPerSecond)} tok/s`,
    `peak ${formatBytes(record.peakBytes)}`,
    `lr ${formatRate(record.learningRate)}`,
  ];
}

/** As many whole parts as fit; if not even the first fits, it is cut. */
function fitted(fields: string[], width: number): string[] {
  let used = fields[0].length;
  let count = 1;
  while (count < fields.length && used + GAP.length + fields[count].length <= width) {
    used += GAP.length + fields[count].length;
    count++;
  }
  return count === 1 ? [fields[0].slice(0, Math.max(0, width))] : fields.slice(0, count);
}

function paintField(field: string): string {
  const [, name, value] = /^(loss|kl) (.*)$/.exec(field) ?? [];
  return name ? `${DIM}${name}${PLAIN} ${BOLD}${value}${PLAIN}` : `${DIM}${field}${PLAIN}`;
}

function evalLine({ step, evalLoss, evalPerplexity, evalMeanTokenAccuracy, network }: EvalRecord): string {
  const which = network === "trained" ? "as trained" : "as the ordinary network";
  const numbers = `loss ${formatLoss(evalLoss)}, perplexity ${formatPerplexity(evalPerplexity)}, accuracy ${formatShare(evalMeanTokenAccuracy)}`;
  return `eval at step ${step}: ${numbers} (${which})`;
}

/** Prompt and text are written as JSON, so that they stay on one line. */
function sampleLine({ step, prompt, text }: SampleRecord): string {
  return visibleText(
    `sample at step ${step}: ${JSON.stringify(cutText(prompt, 200))} -> ${JSON.stringify(cutText(text, 600))}`,
  );
}

function messageLine({ level, message }: MessageRecord): string {
  const text = visibleText(cutText(message));
  return level === "warning" ? `warning: ${text}` : text;
}

const TIMED_STEPS = 9;

/**
 * Estimates the time left by the median of the last steps, so that one long pause of the process (Ctrl-Z, a sleeping
 * laptop) does not matter.
 */
function estimator(totalSteps: number): (record: StepRecord) => number {
  const times: number[] = [];
  return ({ step, stepMs }) => {
    if (Number.isFinite(stepMs)) times.push(stepMs);
    if (times.length > TIMED_STEPS) times.shift();
    return Math.max(0, totalSteps - step) * median(times);
  };
}

/** NaN if there are no values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Four decimals, such as 2.3456; NaN and infinity as "nan" and "inf". */
export function formatLoss(loss: number): string {
  if (!Number.isFinite(loss)) return formatOdd(loss);
  return loss >= 1e4 ? loss.toExponential(3) : loss.toFixed(4);
}

function formatPerplexity(perplexity: number): string {
  if (!Number.isFinite(perplexity)) return formatOdd(perplexity);
  return perplexity >= 1e5 ? perplexity.toExponential(2) : perplexity.toFixed(2);
}

const formatShare = (share: number): string => (Number.isFinite(share) ? share.toFixed(3) : formatOdd(share));

const formatRate = (rate: number): string => (Number.isFinite(rate) ? rate.toExponential(2) : formatOdd(rate));

const formatSpeed = (speed: number): string =>
  Number.isFinite(speed) ? formatCount(Math.round(speed)) : formatOdd(speed);

const formatOdd = (value: number): string => (Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf");
