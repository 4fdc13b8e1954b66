// Every reader that is fuzzed. A new one is a line here.
import { configReader, denseReader, generationReader, networkReader, planReader } from "./config-readers.js";
import { ggufReader } from "./gguf-reader.js";
import { cacheReader, hubIndexReader, listingReader } from "./hub-readers.js";
import type { Reader } from "./reader.js";
import { cardReader, rowReaders, sourcesReader } from "./row-readers.js";
import { dashboardReader, flagsReader, metricsReader, settingsReader, stateReader } from "./run-readers.js";
import { conversationReader, taskReader, templateReader, tokenizerReader } from "./text-readers.js";
import {
  indexReader,
  modelReader,
  optimizerReader,
  packedReader,
  quantisedReader,
  safetensorsReader,
  undoLogReader,
  weightsReader,
} from "./weight-readers.js";

export const READERS: readonly Reader[] = [
  configReader,
  planReader,
  denseReader,
  generationReader,
  networkReader,
  safetensorsReader,
  indexReader,
  modelReader,
  weightsReader,
  packedReader,
  quantisedReader,
  optimizerReader,
  undoLogReader,
  ggufReader,
  tokenizerReader,
  templateReader,
  ...rowReaders,
  sourcesReader,
  cardReader,
  conversationReader,
  taskReader,
  settingsReader,
  flagsReader,
  stateReader,
  metricsReader,
  dashboardReader,
  listingReader,
  hubIndexReader,
  cacheReader,
];
