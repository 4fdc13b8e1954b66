// `revmoe launch`: starts a command as several ranks. Its words and settings; the work is in run/launch.ts.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

const GROUP = "Ranks";

export const ROWS = {
  nproc: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 1024,
    group: GROUP,
    about: "processes of this machine; 0: PET_NPROC_PER_NODE, else 1",
  },
  nnodes: { kind: "integer", default: 0, min: 0, max: 65536, group: GROUP, about: "machines; 0: PET_NNODES, else 1" },
  node_rank: {
    kind: "integer",
    default: -1,
    min: -1,
    group: GROUP,
    about: "which of them this is, from 0; -1: PET_NODE_RANK, else 0",
  },
  master_addr: {
    kind: "string",
    default: "",
    metavar: "HOST",
    group: GROUP,
    about: "the machine of rank 0, with several; else PET_MASTER_ADDR",
  },
  master_port: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 65535,
    group: GROUP,
    about: "a port of that machine; 0: PET_MASTER_PORT, else 29500, or a free one of a single machine",
  },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "launch",
  usage: "revmoe launch [--setting value ...] COMMAND [...]",
  example: "revmoe launch --nproc 2 train config.yaml --output-dir runs/first",
  settings: { rows: ROWS },
  passesOn: { label: "COMMAND", about: "what every rank runs, as behind revmoe: train and its words" },
  load: () => import("./run/launch.js"),
};
