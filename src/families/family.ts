// What a family is: one `model_type` of config.json, and how an architecture is made from such a file.
import type { Architecture } from "../model/architecture.js";
import type { ConfigReader } from "./config-reader.js";

export interface Family {
  modelType: string;
  /** Errors: UserError for a value that is wrong, or that asks for what is not computed. */
  read(read: ConfigReader): Architecture;
}
