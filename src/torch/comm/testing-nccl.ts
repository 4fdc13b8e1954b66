// For tests: the stand-in for NCCL, compiled, and two processes that send over it in rounds. As a program it is one of these processes:
// `testing-nccl.js LIBRARY ID RANK SECONDS ROUNDS`, ROUNDS as JSON.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { packageRoot } from "../../../setup/libtorch.mjs";
import { scope } from "../scope.js";
import { full, toArray } from "../tensor.js";
import { Lane, ncclId } from "./nccl.js";
import type { Ticket } from "./group.js";

/** Where it lies until the test ends. */
export function makeNcclStandIn(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-nccl-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const library = join(folder, "libnccl.so.2");
  const source = join(packageRoot, "native/emulated/nccl.cpp");
  const words = ["-std=gnu++17", "-O1", "-fPIC", "-shared", "-pthread", source, "-o", library];
  const { status, stderr } = spawnSync("c++", words, { encoding: "utf8" });
  if (status !== 0 || !existsSync(library)) throw new Error(stderr);
  return library;
}

/** What a rank does in a round with the other one: sizes of what it sends, and of what it receives. */
export interface TwoSided {
  send: number[];
  receive: number[];
}

/** Both begin their rounds and wait for all of them; by rank, the first number of each tensor that came, or what went wrong. */
export async function sendRounds(library: string, seconds: number, byRank: TwoSided[][]): Promise<string[]> {
  const id = Buffer.from(ncclId(library)).toString("hex");
  return Promise.all(
    byRank.map(async (rounds, rank) => {
      const words = [fileURLToPath(import.meta.url), library, id, rank, seconds, JSON.stringify(rounds)].map(String);
      const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
      let said = "";
      child.stdout.on("data", (text: Buffer) => (said += String(text)));
      await new Promise((resolve) => child.on("close", resolve));
      return said;
    }),
  );
}

function run([library, id, rankText, seconds, rounds]: string[]): string {
  const rank = Number(rankText);
  try {
    const place = { library, id: Buffer.from(id, "hex"), rank, world: 2, device: "cpu", seconds: Number(seconds) };
    const lane = new Lane(place);
    return scope(() => {
      const came: ReturnType<typeof full>[] = [];
      let last: Ticket | undefined;
      for (const [i, { send, receive }] of (JSON.parse(rounds) as TwoSided[]).entries()) {
        for (const [k, size] of send.entries())
          last = lane.send(full([size], 100 * rank + 10 * i + k, "float32"), [1 - rank]);
        for (const size of receive) {
          came.push(full([size], -1, "float32"));
          last = lane.receive(came.at(-1) as (typeof came)[0], 1 - rank);
        }
        lane.begin();
      }
      lane.wait(last as Ticket);
      const found = came.map((tensor) => toArray(tensor).at(-1)).join(" ");
      lane.close();
      return found;
    });
  } catch (failure) {
    return (failure as Error).message;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(run(process.argv.slice(2)));
  process.exit(0);
}
