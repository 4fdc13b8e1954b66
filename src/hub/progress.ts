// Shows a download to a person: on a terminal as one line, rewritten once a second at most; elsewhere as a line per
// file. Writes only to the given output.
import { formatBytes, formatDuration, visibleText } from "../format.js";
import { canRedraw, type Output, writeRaw } from "../metrics/output.js";
import type { RemoteFile } from "./repository.js";

export interface FetchProgress {
  /** `at` bytes of the file are there; called again if a file starts anew. */
  begin(file: RemoteFile, at: number): void;
  /** More bytes of the file came over the network. */
  arrived(bytes: number): void;
  /** The file is complete. */
  end(): void;
  close(): void;
}

export interface ProgressOptions {
  out: Output;
  files: readonly RemoteFile[];
  /** Returns the milliseconds of a clock. */
  now?: () => number;
  env?: Readonly<Record<string, string | undefined>>;
}

export const CLEAR_LINE = "\r\x1b[2K";

export const SILENT: FetchProgress = { begin: () => {}, arrived: () => {}, end: () => {}, close: () => {} };

export function fetchProgress({ out, files, now = () => performance.now(), env }: ProgressOptions): FetchProgress {
  const redraw = canRedraw(out, env);
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const startedMs = now();
  let drawnMs = Number.NEGATIVE_INFINITY;
  let received = 0;
  let finished = { files: 0, bytes: 0 };
  let current: { file: RemoteFile; at: number } | undefined;

  const figures = (): string => {
    const doneBytes = finished.bytes + (current?.at ?? 0);
    const perMs = received / Math.max(1, now() - startedMs);
    const left = formatDuration((totalBytes - doneBytes) / perMs);
    return `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}  ${formatBytes(1000 * perMs)}/s  left ${left}`;
  };
  const draw = (): void => {
    if (!redraw || !current || now() - drawnMs < 1000) return;
    drawnMs = now();
    const line = `file ${finished.files + 1}/${files.length}  ${figures()}  ${current.file.path}`;
    writeRaw(out, CLEAR_LINE + visibleText(line).slice(0, (out.columns || 80) - 1));
  };

  return {
    begin: (file, at) => {
      current = { file, at };
      draw();
    },
    arrived: (bytes) => {
      received += bytes;
      if (current) current.at += bytes;
      draw();
    },
    end: () => {
      if (!current) return;
      const { file } = current;
      finished = { files: finished.files + 1, bytes: finished.bytes + file.bytes };
      current = undefined;
      if (!redraw) out.write(`file ${finished.files}/${files.length}  ${figures()}  ${file.path}\n`);
    },
    close: () => {
      if (redraw && Number.isFinite(drawnMs)) writeRaw(out, CLEAR_LINE);
    },
  };
}
