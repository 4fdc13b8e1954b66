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
    about: "folders of runs, or folders that hold runs; may stand without the flag",
  },
  port: {
    kind: "integer",
    default: 4747,
    min: 0,
    max: 65535,
    about: "where the page is served, on this machine alone; 0: any port that is free",
  },
} as const satisfies SettingRows;

export const command: Command<typeof ROWS> = {
  name: "dashboard",
  usage: "revmoe dashboard [RUN...] [--port N]",
  example: "revmoe dashboard runs\nrevmoe dashboard runs/first runs/second --port 8080",
  settings: { rows: ROWS },
  positional: { label: "RUN...", about: "runs, or folders that hold runs; by default runs", setting: "runs" },
  json: true,
  jsonAbout: "print address, runs and notes as one JSON document, then serve",
  load: () => import("./dashboard/run.js"),
};
