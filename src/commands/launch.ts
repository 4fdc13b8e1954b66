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
    about: "number of processes on this machine; 0: PET_NPROC_PER_NODE, or 1 without it",
  },
  nnodes: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 65536,
    group: GROUP,
    about: "number of machines; 0: PET_NNODES, or 1 without it",
  },
  node_rank: {
    kind: "integer",
    default: -1,
    min: -1,
    group: GROUP,
    about: "number of this machine, from 0; -1: PET_NODE_RANK, or 0 without it",
  },
  master_addr: {
    kind: "string",
    default: "",
    metavar: "HOST",
    group: GROUP,
    about: "the machine of rank 0, if there are several; none: PET_MASTER_ADDR",
  },
  master_port: {
    kind: "integer",
    default: 0,
    min: 0,
    max: 65535,
    group: GROUP,
    about:
      "a free port of the machine of rank 0; 0: PET_MASTER_PORT, or without it 29500, or any free port if there is one machine",
  },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "launch",
  usage: "revmoe launch [--setting value ...] COMMAND [...]",
  example: "revmoe launch --nproc 2 train config.yaml --output-dir runs/first",
  settings: { rows: ROWS },
  passesOn: {
    label: "COMMAND",
    about: "the command that every rank runs, written as after revmoe: train and its settings",
  },
  load: () => import("./run/launch.js"),
};
