// Which card a rank computes on: "cuda" is the one of its place among the ranks of its machine, as launchers have it; cuda:N is that card, also for
// several. And what carries tensors between the cards.
import { UserError } from "../../errors.js";
import type { Collectives, RankTransport } from "../../parallel/collectives.js";
import { findNccl, type NcclLibrary } from "../../torch/comm/nccl.js";
import { deviceIndex, isCpu } from "../../torch/device-name.js";

export interface SeenCards {
  /** Tells machines apart. */
  machine: string;
  /** Of this rank among those of its machine. */
  localRank: number;
  /** That libtorch sees. */
  cards: number;
  /** CUDA_VISIBLE_DEVICES, with which a launcher may show each rank a card of its own. */
  visible: string | undefined;
}

/** Errors: UserError where a machine has fewer cards than ranks. */
export function deviceOfRank(device: string, { localRank, cards, visible }: SeenCards): string {
  // That there is none is said where the device is opened.
  if (device !== "cuda" || cards === 0) return device;
  if (localRank < cards) return `cuda:${localRank}`;
  if (cards === 1 && visible) return "cuda:0";
  throw new UserError(
    `device: cuda is the card of LOCAL_RANK, which is ${localRank}, and libtorch sees ${cards} CUDA device(s) (expected one for each rank of a machine). ` +
      "Start as many ranks as there are cards, or set device to cuda:0 for ranks that share it.",
  );
}

/** The device of every rank, in their order. Errors: UserError, on all ranks, also where "cuda" is one card for two. */
export function rankDevices(ranks: Collectives, device: string, seen: SeenCards): string[] {
  const found = onEach(ranks, () => {
    const own = deviceOfRank(device, seen);
    return { own, card: [seen.machine, seen.visible, own].join() };
  });
  for (const [rank, { own, card }] of found.entries()) {
    const first = found.findIndex((each) => each.card === card);
    if (device !== "cuda" || own === "cuda" || first === rank) continue;
    throw new UserError(
      `device: ranks ${first} and ${rank} of one machine would share its only visible card (expected one for each rank). ` +
        "Start as many ranks as there are cards, or set device to cuda:0 for ranks that share it.",
    );
  }
  return found.map(({ own }) => own);
}

/** The library of NCCL for this rank's device. Errors: UserError, on all ranks, where one of them has none, or two have one card. */
export function ncclLibrary(
  ranks: Collectives,
  device: string,
  { machine, visible, find = findNccl }: { machine: string; visible: string | undefined; find?: () => NcclLibrary },
): string {
  const found = onEach(ranks, () => {
    const nccl = findOr(find);
    // Of a stand-in, main memory is the card.
    if (isCpu(device) && !nccl.movesMainMemory)
      throw new UserError(
        `rank_transport: nccl sends from card to card, and device is ${device}. Set rank_transport to gloo.`,
      );
    const index = deviceIndex(device);
    return { ...nccl, card: `${machine}, card ${visible?.split(",")[index] ?? index}`, isCard: !isCpu(device) };
  });
  for (const [rank, { card, isCard, version }] of found.entries()) {
    const first = found.findIndex((each) => each.isCard && each.card === card);
    if (isCard && first < rank)
      throw new UserError(
        `rank_transport: nccl needs a card for each rank, and ranks ${first} and ${rank} share one (${card}). Set rank_transport to gloo, or device to cuda.`,
      );
    if (version !== found[0].version)
      throw new UserError(
        `rank_transport: rank ${rank} has NCCL ${version}, and rank 0 ${found[0].version} (expected the same). Set up one version on every machine.`,
      );
  }
  return found[ranks.rank].library;
}

function findOr(find: () => NcclLibrary): NcclLibrary {
  try {
    return find();
  } catch (failure) {
    throw new UserError(
      `rank_transport: nccl: ${(failure as Error).message}. Set REVMOE_NCCL to the library, or rank_transport to gloo.`,
    );
  }
}

/** What `look` finds on every rank. Errors: on all ranks a UserError of the first that met one. */
function onEach<T>(ranks: Collectives, look: () => T): T[] {
  let own: { found: T } | { problem: string };
  try {
    own = { found: look() };
  } catch (failure) {
    if (!(failure instanceof UserError)) throw failure;
    own = { problem: failure.message };
  }
  return ranks.gather(own).map((each, rank) => {
    if ("found" in each) return each.found;
    throw new UserError(`rank ${rank}: ${each.problem}`);
  });
}

/** What is said of it at the start; nothing of ranks on a CPU with Gloo. */
export function deviceLine(devices: readonly string[], transport: RankTransport): string | null {
  if (devices.every(isCpu) && transport === "gloo") return null;
  const carried = transport === "nccl" ? "over NCCL" : "through main memory";
  return `devices: ${devices.map((device, rank) => `rank ${rank} on ${device}`).join(", ")}; what ranks send goes ${carried}`;
}
