// The only list of formats of quantised releases. One that is not here is refused by whoever reads the architecture.
import { ConfigReader } from "../../families/config-reader.js";
import { fp8Blocks } from "./fp8-blocks.js";
import type { Quantisation, QuantisedFormat } from "./format.js";

const FORMATS: readonly QuantisedFormat[] = [fp8Blocks];

const KEY = "quantization_config";

/**
 * How weights beside a config.json are decoded, null where they are not quantised, or in no format of ours; and the config.json of the
 * decoded model, which says nothing of it. Errors: UserError for a variant of a format that is not decoded.
 */
export function readQuantisation(
  config: Record<string, unknown>,
  where: string,
): { config: Record<string, unknown>; quantisation: Quantisation | null } {
  const { [KEY]: stated, ...plain } = config;
  if (typeof stated !== "object" || stated === null || Array.isArray(stated)) return { config, quantisation: null };
  const settings = stated as Record<string, unknown>;
  const format = FORMATS.find(({ method }) => method === settings.quant_method);
  if (!format) return { config, quantisation: null };
  return { config: plain, quantisation: format.open(new ConfigReader(settings, `${where}: ${KEY}`)) };
}
