// The door to rows: what is asked for as data is parsed, opened, and read as one stream of batches in bounded memory.
export { placeOf } from "./sources/glob.js";
export { isMixed } from "./sources/mix.js";
export {
  openSources,
  type OpenSources,
  readAllRows,
  type RowBatch,
  type SourceSettings,
} from "./sources/open-sources.js";
export { parseSources, sourcesAsText } from "./sources/parse.js";
export type { Source } from "./sources/source.js";
