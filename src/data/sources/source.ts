// What is asked for as data: one file or several, globs, folders, and sets on a hub, each with a weight, a number of
// rows and its own names of columns. As text it is "a.jsonl:0.7,b/*.parquet[:1000]:0.3", else a list of names and maps.
// Reads no files.

export interface Source {
  /** A path, a glob, a folder, or org/name[@revision] on a hub. */
  file: string;
  /** Share of the rows, relative to the others' weights; undefined if no source has a weight. */
  weight?: number;
  /** Most rows, counted from the first. */
  rows?: number;
  /** Split of a folder or set; "train" by default. */
  split?: string;
  /** Configuration of a set that has several. */
  subset?: string;
  /** What a row holds; by default, what the setting says. */
  format?: string;
  /** The file's columns by our names; by default, those of the setting. */
  columns?: Readonly<Record<string, string>>;
  /** The file's format, if neither its ending nor its content tells it. */
  file_format?: string;
}
