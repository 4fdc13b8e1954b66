// From --model to the folder of one model, for commands that read it: a folder as it is, a name downloaded from a hub,
// and for a run's folder its result, or else its newest checkpoint. It prints what it chose.
import { findModel, type FoundModel } from "../checkpoint/run/find-model.js";
import { type ResolveOptions, resolveModel } from "./resolve.js";

/**
 * `to` completes "give its path to ... it instead". Errors: UserError as `resolveModel`, and for a run that has saved
 * nothing yet.
 */
export async function namedModel(model: string, to: string, options: ResolveOptions): Promise<FoundModel> {
  const found = findModel(await resolveModel(model, options));
  const { folder, run, newer } = found;
  const say = (text: string): void => void options.out.write(`note: ${text}\n`);
  if (run !== undefined) say(`${run} is the folder of a run; its model is taken from ${folder}`);
  if (newer) say(`${newer} was saved after ${folder}; give its path to ${to} it instead`);
  return found;
}
