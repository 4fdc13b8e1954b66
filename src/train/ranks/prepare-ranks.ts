// What a run of several ranks is beside a run of one: which settings it cannot have, who has the folder, and how many threads each takes.
import { UserError } from "../../errors.js";
import { type Collectives, onFirst } from "../../parallel/collectives.js";
import { STORES } from "../../store/registry.js";
import { openRunFolder, type RunFolder } from "../folder/run-folder.js";
import type { TrainSettings } from "../settings/settings.js";

/** Errors: UserError for what several ranks cannot do. */
export function checkForRanks(settings: TrainSettings, { world }: Pick<Collectives, "world">): void {
  const { parameters, expert_group_size: groups, sequence_ranks: together } = settings;
  const { lies, shared } = STORES[parameters];
  if (world === 1 && shared)
    throw new UserError(
      `parameters: ${parameters} shares them out over several ranks, and one process trains here. Start several (revmoe launch --nproc 2 train ...), or set parameters to ${lies === "files" ? "disk" : "device"}.`,
    );
  if (world % together > 0)
    throw new UserError(
      `sequence_ranks: ${together} hold each micro-batch together, and there are ${world} in all (expected a multiple of ${together}). Start as many (revmoe launch --nproc ${together} train ...), or remove it.`,
    );
  if (world === 1) return;
  const refused = (name: string, value: unknown, why: string): UserError =>
    new UserError(`${name}: ${value} is for one process, and ${world} ranks train here: ${why}`);
  if (!shared && lies !== "device")
    throw refused(
      "parameters",
      parameters,
      "every rank has all of them in its memory, or a share. Set parameters to device, sharded or sharded-disk.",
    );
  if (groups > 0) throw refused("expert_group_size", groups, "they add whole gradients. Remove it.");
}

const NOT_OURS: RunFolder = { notes: [], begin() {}, close() {}, abandon() {} };

/** Of the first rank; the others go on when it is there. */
export function folderFor(ranks: Collectives, settings: TrainSettings): RunFolder {
  let folder = NOT_OURS;
  onFirst(ranks, () => {
    folder = openRunFolder(settings);
  });
  return folder;
}

/** What the launcher gave each process of a machine, where nothing was asked; 0: all. */
export const threadsFor = ({ world }: Collectives, { threads }: TrainSettings): number =>
  threads === 0 && world > 1 ? Number(process.env.OMP_NUM_THREADS) || 0 : threads;

/** What is said of sums, and of how they travel, where there are none. */
export const sumNotes = (
  { rank_sums, rank_transport }: Readonly<TrainSettings>,
  { world }: Pick<Collectives, "world">,
): string[] => {
  if (world > 1 || rank_sums === "ordered") return [];
  return [
    `rank_sums ${rank_sums} has no effect: one process trains`,
    ...(rank_transport === "gloo" ? [] : [`rank_transport ${rank_transport} has no effect: one process trains`]),
  ];
};
