// From a folder to a network that can be run: its weights, and either the coupling they were trained with or the
// ordinary one. Weights are loaded in the compute dtype, so open blocks need no copies. The caller frees them with
// `freeModel`.
import { loadModel } from "../checkpoint/load.js";
import type { ModelSource } from "../checkpoint/source.js";
import { UserError } from "../errors.js";
import { deviceStore } from "../store/device.js";
import { fastestDtype } from "../torch/device.js";
import type { DType } from "../torch/tensor.js";
import { asEvaluated, type Network } from "../network/network.js";
import {
  extensionOf,
  NETWORK_FILE,
  type NetworkDescription,
  networkParts,
  ORDINARY,
  statedNetwork,
} from "../network/description.js";

export interface OpenOptions {
  /** "auto": "trained" if the folder says how it was trained, else "ordinary". */
  as: "auto" | "trained" | "ordinary";
  device: string;
  computeDtype: "auto" | DType;
}

/**
 * The network as which a folder is run. Errors: UserError for "trained" if the folder does not say how it was trained.
 */
export function chooseNetwork(folder: string, as: OpenOptions["as"]): NetworkDescription {
  if (as === "ordinary") return ORDINARY;
  const stated = statedNetwork(folder);
  if (as === "trained" && stated === undefined) {
    throw new UserError(
      `as: trained is not possible: ${folder} has no ${NETWORK_FILE}, which tells how it was. ` +
        "Use ordinary, or leave it out.",
    );
  }
  return stated ?? ORDINARY;
}

/** Opens a network; if its coupling draws noise in training, the network without it. */
export function openNetwork(from: ModelSource | string, { as, device, computeDtype: asked }: OpenOptions): Network {
  const description = chooseNetwork(typeof from === "string" ? from : from.path, as);
  const computeDtype = asked === "auto" ? fastestDtype(device) : asked;
  return asEvaluated({
    model: loadModel(from, { weightsDtype: computeDtype, device, extend: extensionOf(description) }),
    ...networkParts(description),
    computeDtype,
    device,
    store: deviceStore(device),
    lossTileTokens: 1024,
  });
}
