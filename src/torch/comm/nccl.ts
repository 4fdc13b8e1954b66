// NCCL: where its library is, and lanes between GPUs, each a communicator with a stream of its own (native/comm/nccl.cpp). On a lane go rounds: what
// was given to it since the last one, all at once. All ranks begin the same rounds of a lane in the same order. Tensors are held until their round
// was waited for. Errors: RankLostError from every call on a lane, and then none is of use any more.
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { byteSize, type Tensor } from "../tensor.js";
import { countSent, reached, type Ticket } from "./group.js";

/** 2.18: the layouts that native/comm/nccl.cpp has. */
const OLDEST = 21_800;

const NAME = /^libnccl\.so(\.\d+)*$/;

/** Where NCCL may be, the likeliest first: REVMOE_NCCL alone where it is set; else beside libtorch, then where the loader looks. */
export function ncclCandidates(libDir = resolveEngine().libDir, wanted = process.env.REVMOE_NCCL): string[] {
  if (wanted) return [wanted];
  const folders = [join(dirname(dirname(libDir)), "nvidia/nccl/lib"), libDir].filter(existsSync);
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => NAME.test(name))
      .map((name) => join(folder, name)),
  );
  return [...files, "libnccl.so.2"];
}

export interface NcclLibrary {
  library: string;
  /** 2.27.3 */
  version: string;
  /** A stand-in, for tests. */
  movesMainMemory: boolean;
}

/** The first of these that can be opened. Errors: what the loader said where there is none; what is wrong with a file that is there. */
export function findNccl(libraries: readonly string[] = ncclCandidates()): NcclLibrary {
  const missing: string[] = [];
  for (const library of libraries) {
    try {
      const { version, movesMainMemory } = native.ncclFacts(library);
      const parts = [Math.floor(version / 10_000), Math.floor(version / 100) % 100, version % 100];
      if (version < OLDEST) throw new Error(`${library} is NCCL ${parts.join(".")} (expected 2.18 or newer)`);
      return { library, version: parts.join("."), movesMainMemory };
    } catch (failure) {
      const { message } = failure as Error;
      if (!message.includes("cannot open shared object")) throw failure;
      missing.push(message);
    }
  }
  throw new Error(`there is no NCCL (${missing.at(0) ?? "nowhere to look"})`);
}

export interface LanePlace {
  library: string;
  /** From `ncclId` of one rank. */
  id: Uint8Array;
  rank: number;
  world: number;
  device: string;
  /** That anything may take. */
  seconds: number;
}

export const ncclId = (library: string): Uint8Array => reached(() => native.ncclId(library));

export class Lane {
  readonly #lane: number;

  /** Every rank makes the call. */
  constructor(place: LanePlace) {
    this.#lane = reached(() => native.openLane(place));
  }

  send(tensor: Tensor, to: readonly number[]): Ticket {
    countSent(to.length * byteSize(tensor));
    return to.map((rank) => reached(() => native.roundSend(this.#lane, tensor, rank)))[0] as Ticket;
  }

  receive(into: Tensor, from: number): Ticket {
    return reached(() => native.roundReceive(this.#lane, into, from)) as Ticket;
  }

  /** Begins a round of what was given since the last. */
  begin(): void {
    reached(() => native.startRound(this.#lane));
  }

  /** Waits for the round of a ticket, and those before it. */
  wait(ticket: Ticket): void {
    reached(() => native.awaitRound(this.#lane, ticket));
  }

  /** Gives up what is not over. */
  close(): void {
    native.closeLane(this.#lane);
  }
}
