// `revmoe launch`: runs the same command in several processes, and tells each its rank.
import { fileURLToPath } from "node:url";

import { UserError } from "../../errors.js";
import { freePort, launchRanks } from "../../parallel/launch.js";
import { kubeflowPlace, type NodePlace } from "../../parallel/launch-names.js";
import type { SettingsOf } from "../../settings/table.js";
import type { CommandInput } from "../command.js";
import type { ROWS } from "../launch.js";

const PROGRAM = fileURLToPath(new URL("../../cli.js", import.meta.url));
const DEFAULT_PORT = 29500;

export async function run({ settings, passed = [], err }: CommandInput<typeof ROWS>): Promise<number> {
  if (passed.length === 0)
    throw new UserError(
      "launch: no command is given (expected one behind the flags). As in: revmoe launch --nproc 2 train config.yaml",
    );
  const place = await nodePlace(settings, process.env);
  err.write(
    `revmoe launch: ${place.nproc} of ${place.nproc * place.nnodes} ranks here, which meet at ${place.host}:${place.port}\n`,
  );
  return launchRanks([process.execPath, PROGRAM, ...passed], place, err);
}

/** The places that were asked for, else those that Kubeflow gives. Errors: UserError. */
export async function nodePlace(
  { nproc, nnodes, node_rank, master_addr, master_port }: SettingsOf<typeof ROWS>,
  env: NodeJS.ProcessEnv,
): Promise<NodePlace> {
  const given = kubeflowPlace(env);
  const nodes = nnodes || (given.nnodes ?? 1);
  const nodeRank = node_rank >= 0 ? node_rank : (given.nodeRank ?? 0);
  const host = master_addr || given.host || (nodes === 1 ? "127.0.0.1" : "");
  if (nodeRank >= nodes)
    throw new UserError(
      `node_rank: ${nodeRank} of ${nodes} machines (expected 0 to ${nodes - 1}). Give --nnodes and --node-rank that fit.`,
    );
  if (host === "")
    throw new UserError(
      `master_addr: ${nodes} machines must know where rank 0 is. Give --master-addr, the same on all.`,
    );
  const port = master_port || given.port || (nodes === 1 ? await freePort() : DEFAULT_PORT);
  return { nproc: nproc || (given.nproc ?? 1), nnodes: nodes, nodeRank, host, port };
}
