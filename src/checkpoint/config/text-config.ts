// Models that also see or hear have their text model's settings under `text_config` of config.json; text models have
// them at the top. All code outside of the families reads and changes such settings here.
type Json = Record<string, unknown>;

const KEY = "text_config";

/** The settings of the text model: `text_config` if it exists, else all of them. */
export const textConfig = (config: Readonly<Json>): Json => nestedIn(config) ?? config;

/** config.json with some settings of its text model changed. */
export function withTextConfig(config: Readonly<Json>, changes: Json): Json {
  const text = nestedIn(config);
  return text ? { ...config, [KEY]: { ...text, ...changes } } : { ...config, ...changes };
}

function nestedIn({ [KEY]: text }: Readonly<Json>): Json | null {
  return typeof text === "object" && text !== null && !Array.isArray(text) ? (text as Json) : null;
}
