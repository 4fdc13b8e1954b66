// The only list of formats of quantised releases. Reading the architecture refuses any other format.
import { ConfigReader } from "../../families/config-reader.js";
import { fp8Blocks } from "./fp8-blocks.js";
import { mxfp4 } from "./mxfp4.js";
import type { Quantisation, QuantisedFormat } from "./format.js";

const FORMATS: readonly QuantisedFormat[] = [fp8Blocks, mxfp4];

const KEY = "quantization_config";

/**
 * How the weights beside a config.json are decoded, null if they are not quantised or in an unknown format; and the
 * config.json of the decoded model, without its quantization_config, but with the dtype if that was left to the format.
 * Errors: UserError for a variant of a format that is not decoded.
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
  const quantisation = format.open(new ConfigReader(settings, `${where}: ${KEY}`));
  const { exactIn } = quantisation;
  // Releases in such a format may leave out the dtype.
  const says = "dtype" in plain || "torch_dtype" in plain || exactIn === undefined;
  return { config: says ? plain : { ...plain, torch_dtype: exactIn }, quantisation };
}
