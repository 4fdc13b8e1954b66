// revmoe-manifest.json: what a folder that we saved holds, with length and checksum of every file. It is written last,
// so a folder that has it is complete. It distinguishes damage from change, and our files from those that a person
// added. Other tools ignore it.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { type FileRecord, writeFileDurably } from "./disk.js";
import { hashFile } from "./hash-file.js";

export const MANIFEST_FILE = "revmoe-manifest.json";

const VERSION = 1;

export interface Manifest {
  /** The version of the program that wrote it. */
  program: string;
  /** Records by name; all files are directly in the folder. */
  files: Map<string, FileRecord>;
}

/**
 * Writes the manifest of a filled folder. `records` come from `recordWrites`; files that were written in other ways are
 * read.
 */
export function writeManifest(folder: string, records: Map<string, FileRecord>): void {
  const files = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== MANIFEST_FILE)
    .map(({ name }): [string, FileRecord] => {
      const { size } = statSync(join(folder, name));
      const record = records.get(name);
      return [
        name,
        record?.bytes === size
          ? record
          : { bytes: size, sha256: hashFile({ path: join(folder, name), kind: "sha256" }) },
      ];
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify(
    { version: VERSION, program: programVersion(), files: Object.fromEntries(files) },
    null,
    2,
  );
  writeFileDurably(join(folder, MANIFEST_FILE), `${text}\n`);
}

/** The manifest of a folder; undefined if it is missing, or not in a form that we understand. */
export function readManifest(folder: string): Manifest | undefined {
  const path = join(folder, MANIFEST_FILE);
  if (!existsSync(path)) return undefined;
  try {
    const { version, program, files } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    const entries = Object.entries(files as object) as [string, unknown][];
    if (version !== VERSION || !entries.every(([name, record]) => isPlainName(name) && isRecord(record)))
      return undefined;
    return { program: String(program), files: new Map(entries as [string, FileRecord][]) };
  } catch {
    return undefined;
  }
}

const isPlainName = (name: string): boolean => name !== "" && name !== "." && name !== ".." && !/[/\\\0]/.test(name);

function isRecord(value: unknown): value is FileRecord {
  if (typeof value !== "object" || value === null) return false;
  const { bytes, sha256 } = value as Partial<FileRecord>;
  return (
    Number.isSafeInteger(bytes) && (bytes as number) >= 0 && typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256)
  );
}

function programVersion(): string {
  return (JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string })
    .version;
}
