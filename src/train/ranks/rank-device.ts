// Which card a rank computes on: "cuda" is the one of its place among the ranks of its machine, as launchers have it; cuda:N is that card, also for several.
import { UserError } from "../../errors.js";
import type { Collectives } from "../../parallel/collectives.js";
import { isCpu } from "../../torch/device-name.js";

export interface SeenCards {
  /** Of this rank among those of its machine. */
  localRank: number;
  /** That libtorch sees. */
  cards: number;
  /** CUDA_VISIBLE_DEVICES, with which a launcher may show each rank a card of its own. */
  visible: string | undefined;
}

/** Errors: UserError where a machine has fewer cards than ranks. */
export function cardOf(device: string, { localRank, cards, visible }: SeenCards): string {
  // That there is none is said where the device is opened.
  if (device !== "cuda" || cards === 0) return device;
  if (localRank < cards) return `cuda:${localRank}`;
  if (cards === 1 && visible) return "cuda:0";
  throw new UserError(
    `device: cuda is the card of LOCAL_RANK, which is ${localRank}, and libtorch sees ${cards} CUDA device(s) (expected one for each rank of a machine). ` +
      "Start as many ranks as there are cards, or set device to cuda:0 for ranks that share it.",
  );
}

/** The device of every rank, in their order. Errors: on all ranks the UserError of the first that has none. */
export function rankDevices(ranks: Collectives, device: string, seen: SeenCards): string[] {
  let own: { device: string } | { problem: string };
  try {
    own = { device: cardOf(device, seen) };
  } catch (failure) {
    if (!(failure instanceof UserError)) throw failure;
    own = { problem: failure.message };
  }
  return ranks.gather(own).map((each, rank) => {
    if ("device" in each) return each.device;
    throw new UserError(`rank ${rank}: ${each.problem}`);
  });
}

/** What is said of it at the start; nothing of ranks on a CPU. */
export function deviceLine(devices: readonly string[]): string | null {
  if (devices.every(isCpu)) return null;
  return `devices: ${devices.map((device, rank) => `rank ${rank} on ${device}`).join(", ")}; what ranks send goes through main memory`;
}
