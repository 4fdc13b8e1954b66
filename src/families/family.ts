// What a family is: one `model_type` of config.json, and how an architecture is made from such a file.
import type { Architecture } from "../model/architecture.js";
import type { ConfigReader } from "./config-reader.js";

export interface Family {
  modelType: string;
  /** What transformers calls its settings and its model. A folder as trained names classes that extend these. */
  classes: { config: string; model: string };
  /** What transformers 4 calls the number of experts, where files of 5 may have either of the usual names. */
  expertsKeyIn4?: "num_experts" | "num_local_experts";
  /** Errors: UserError for a value that is wrong, or that asks for what is not computed. */
  read(read: ConfigReader): Architecture;
}

/** The names of a family whose model writes texts and does nothing else. */
export const causalClasses = (stem: string): Family["classes"] => ({
  config: `${stem}Config`,
  model: `${stem}ForCausalLM`,
});
