// Which layers see a window of tokens alone: by `layer_types`, a list of transformers, or by what a family's class says without one.
import type { ConfigReader } from "../config-reader.js";

const [SLIDING, FULL] = ["sliding_attention", "full_attention"];

/** For each layer its window, or null where it sees all. */
export function readWindows(
  read: ConfigReader,
  numLayers: number,
  usual: (layer: number) => boolean,
): (number | null)[] {
  const types =
    read.source.layer_types ?? Array.from({ length: numLayers }, (_, layer) => (usual(layer) ? SLIDING : FULL));
  const fits =
    Array.isArray(types) && types.length === numLayers && types.every((type) => type === SLIDING || type === FULL);
  if (!fits) read.fail("layer_types", `"${SLIDING}" or "${FULL}" for each of ${numLayers} layers`);
  return (types as string[]).map((type) => (type === SLIDING ? read.integer("sliding_window") : null));
}
