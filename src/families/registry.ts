// The only list of families, in the order that messages name them.
import { excerpt, UserError } from "../errors.js";
import type { Architecture } from "../model/architecture.js";
import { ConfigReader } from "./config-reader.js";
import { deepseekV2 } from "./deepseek-v2.js";
import { deepseekV3 } from "./deepseek-v3.js";
import { dots1 } from "./dots1.js";
import type { Family } from "./family.js";
import { ernie45Moe } from "./ernie4-5-moe.js";
import { glm4Moe } from "./glm4-moe.js";
import { glm4MoeLite } from "./glm4-moe-lite.js";
import { gptOss } from "./gpt-oss.js";
import { graniteMoe } from "./granite-moe.js";
import { minimaxM2 } from "./minimax-m2.js";
import { mixtral } from "./mixtral.js";
import { olmoe } from "./olmoe.js";
import { qwen2Moe } from "./qwen2-moe.js";
import { qwen3Moe } from "./qwen3-moe.js";
import { solarOpen } from "./solar-open.js";
import { qwen3Next } from "./delta/qwen3-next.js";
import { qwen35Moe, qwen35MoeText } from "./delta/qwen3-5-moe.js";

export const FAMILIES: readonly Family[] = [
  qwen2Moe,
  qwen3Moe,
  mixtral,
  olmoe,
  graniteMoe,
  glm4Moe,
  minimaxM2,
  ernie45Moe,
  deepseekV3,
  deepseekV2,
  glm4MoeLite,
  dots1,
  solarOpen,
  gptOss,
  qwen3Next,
  qwen35Moe,
  qwen35MoeText,
];

/** The architecture that a config.json describes; `where` names the file in errors. */
export function readArchitecture(source: Record<string, unknown>, where: string): Architecture {
  return familyOf(source, where).read(new ConfigReader(source, where));
}

/** Errors: UserError for a model_type that is not known. */
export function familyOf(source: Record<string, unknown>, where: string): Family {
  const wanted = source.model_type;
  const found = FAMILIES.find(({ modelType }) => modelType === wanted);
  if (found) return found;
  const dense = ["llama", "mistral", "qwen2", "qwen3"].includes(wanted as string);
  throw new UserError(
    `${where}: model_type is ${excerpt(wanted)} (expected ${FAMILIES.map(({ modelType }) => modelType).join(", ")}). ` +
      (dense ? "Make a mixture of experts of it: revmoe upcycle." : "This architecture is not supported."),
  );
}
