// `revmoe dashboard`: serves the page until it is stopped by Ctrl-C or SIGTERM. Reads the folders of runs and changes
// nothing.
import { checkFolders, findRuns } from "../../dashboard/find-runs.js";
import { startDashboard } from "../../dashboard/server.js";
import { formatNumberOf } from "../../format.js";
import type { CommandInput } from "../command.js";
import type { ROWS } from "../dashboard.js";

export async function run({ settings, given, json, out, err }: CommandInput<typeof ROWS>): Promise<number> {
  const { runs: folders, port } = settings;
  // The default folder may not exist until the first run.
  if (given.has("runs")) checkFolders(folders);
  const { runs, notes } = findRuns(folders);
  const dashboard = await startDashboard(folders, port);
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
  if (json) out.write(`${JSON.stringify({ url: dashboard.url, runs, notes }, null, 2)}\n`);
  else {
    for (const note of notes) err.write(`note: ${note}\n`);
    out.write(`${formatNumberOf(runs.length, "run")} at ${dashboard.url}\n`);
    out.write("Open this address in a browser on this machine. Ctrl-C ends it.\n");
  }
  await stopped;
  await dashboard.close();
  return 0;
}
