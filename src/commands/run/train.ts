// `revmoe train`: settings in, a run folder out. This file has the process's place among ranks, how it is stopped, and
// the words at the end; the run itself is in the library (src/library/run-training.ts).
import { hostname } from "node:os";
import { setFlagsFromString } from "node:v8";

import { latestCheckpoint } from "../../checkpoint/run/checkpoints.js";
import { runTraining } from "../../library/run-training.js";
import { type Collectives, onFirst } from "../../parallel/collectives.js";
import { type JoinedRanks, joinRanks } from "../../parallel/join.js";
import { type RankPlace, rankPlace } from "../../parallel/launch-names.js";
import type { Output } from "../../metrics/output.js";
import { engineInfo } from "../../torch/device.js";
import { thisProcess } from "../../checkpoint/run/process-identity.js";
import { deviceLine, ncclLibrary, rankDevices } from "../../train/ranks/rank-device.js";
import type { TRAIN_ROWS } from "../../train/settings/rows.js";
import type { TrainSettings } from "../../train/settings/settings.js";
import { requestedStop, type StopRequest } from "../../train/stop/stop-signals.js";
import type { CommandInput } from "../command.js";

export async function run({ settings: asked, given, out: first }: CommandInput<typeof TRAIN_ROWS>): Promise<number> {
  const place = rankPlace(process.env);
  const ranks = joinRanks(place, asked.rank_timeout);
  // Only the first rank prints, since all would print the same.
  const out = ranks.rank === 0 ? first : { write() {} };
  const settings = withDevice(withRestart(asked, place, ranks), place, ranks, out);
  let stop: StopRequest | undefined;
  const listen = (resumed: string | null): StopRequest => {
    // Without this, Node's space for short-lived objects, 2 to 32 MB, grows and shrinks during a run, and would hide a
    // leak.
    setFlagsFromString("--semi-space-growth-factor=1");
    return (stop = requestedStop(resumed));
  };
  try {
    const { stopped, folder } = await runTraining({ settings, given, ranks, out, listen });
    ranks.close();
    if (!stopped) return 0;
    const words =
      folder === "" ? "stopped before the first step" : `stopped; go on with: revmoe train ... --resume ${folder}`;
    out.write(`${words}\n`);
    return stop?.exitCode ?? 0;
  } finally {
    stop?.forget();
  }
}

/** Every rank on its card, and what carries tensors between them. */
function withDevice(asked: TrainSettings, place: RankPlace | null, ranks: JoinedRanks, out: Output): TrainSettings {
  if (place === null) return asked;
  const { CUDA_VISIBLE_DEVICES: visible } = process.env;
  // Containers of two machines may have one name.
  const machine = [hostname(), thisProcess().boot.slice(0, 8)].join(" ");
  const seen = { machine, localRank: place.localRank, cards: engineInfo().cudaDevices, visible };
  const devices = rankDevices(ranks, asked.device, seen);
  const device = devices[ranks.rank];
  if (asked.rank_transport === "nccl") ranks.useNccl(ncclLibrary(ranks, device, { machine, visible }), device);
  const line = deviceLine(devices, asked.rank_transport);
  if (line !== null) out.write(`${line}\n`);
  return { ...asked, device };
}

/** A launcher that starts a run again uses the original words; so the run goes on from its newest checkpoint. */
function withRestart(asked: TrainSettings, place: RankPlace | null, ranks: Collectives): TrainSettings {
  if (place === null || place.restarts === 0 || asked.resume !== "") return asked;
  const isThere = onFirst(ranks, () => latestCheckpoint(asked.output_dir) !== null);
  return isThere ? { ...asked, resume: "latest" } : asked;
}
