// `revmoe dashboard`: shows runs as a page in a browser. Its words and settings; the work is in dashboard/run.ts.
import type { SettingRows } from "../settings/table.js";
import type { Command } from "./command.js";

export const ROWS = {
  runs: {
    kind: "string",
    list: true,
    wholeWords: true,
    metavar: "FOLDER...",
    default: ["runs"],
    about: "folders of runs, or folders that contain runs; the flag itself may be left out",
  },
  port: {
    kind: "integer",
    default: 4747,
    min: 0,
    max: 65535,
    about: "port of the page, which only this machine can open; 0: any free port",
  },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "dashboard",
  usage: "revmoe dashboard [RUN...] [--port N]",
  example: "revmoe dashboard runs\nrevmoe dashboard runs/first runs/second --port 8080",
  settings: { rows: ROWS },
  positional: {
    label: "RUN...",
    about: "folders of runs, or folders that contain runs; by default the folder runs",
    setting: "runs",
  },
  json: true,
  jsonAbout: "print address, runs and notes as one JSON document, then serve",
  load: () => import("./dashboard/run.js"),
};
