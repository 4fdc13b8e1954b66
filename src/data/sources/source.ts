// What is asked for as data: one file or several, globs, folders, and sets on a hub, each with a weight, a number of rows
// and names of its own. Written as text, "a.jsonl:0.7,b/*.parquet[:1000]:0.3", or as a list of names and maps. Reads no files.

export interface Source {
  /** A path, a glob, a folder, or org/name[@revision] on a hub. */
  file: string;
  /** Share of the rows, against the weights of the others; undefined where no source has one. */
  weight?: number;
  /** Rows at most, from the first. */
  rows?: number;
  /** Of a folder or a set: "train" unless given. */
  split?: string;
  /** Of a set that has several configurations. */
  subset?: string;
  /** What a row holds; the setting's where not given. */
  format?: string;
  /** The file's own columns by our names; the setting's where not given. */
  columns?: Readonly<Record<string, string>>;
  /** Name of the file's format, where neither ending nor content tell it. */
  file_format?: string;
}
