// A machine as far as a plan needs it: the card, main memory, the disk, and how fast each is. The one at hand, or one that is described.
// Speeds of cards are those of their makers' data sheets, dense bfloat16 with float32 sums; a card that is not listed is taken for the listed
// one of the nearest size, which is said.
import { spawnSync } from "node:child_process";

import { freeBytes } from "../../checkpoint/files/disk.js";
import { UserError } from "../../errors.js";
import { parseBytes } from "../../format.js";
import { fastestDtype, isCpu } from "../../torch/device.js";
import { deviceIndex } from "../../torch/device-name.js";
import { productFlops } from "./product-speed.js";

export interface Card {
  name: string;
  bytes: number;
  /** 1e12 multiplications and additions a second, of bfloat16 products. */
  tflops: number;
  /** Bytes a second of its own memory, and of its link to main memory, one way. */
  memoryRate: number;
  linkRate: number;
}

export interface Machine {
  card: Card | null;
  memoryBytes: number;
  diskBytes: number;
  /** Floating-point operations a second of products on the processor. */
  flops: number;
  /** Bytes a second of main memory, and of the disk. */
  memoryRate: number;
  diskRate: number;
}

const GB = 1e9;
const card = (name: string, gib: number, tflops: number, memory: number, link: number): Card => ({
  ...{ name, bytes: gib * 2 ** 30, tflops },
  ...{ memoryRate: memory * GB, linkRate: link * GB },
});

/** Without what the driver keeps for itself of the round number. */
const CARDS: readonly Card[] = [
  card("RTX 3060", 11.6, 51, 360, 12),
  card("RTX 4060 Ti 16GB", 15.6, 88, 288, 12),
  card("RTX 4080", 15.6, 195, 717, 25),
  card("RTX 5080", 15.6, 225, 960, 50),
  card("A10", 22, 125, 600, 25),
  card("L4", 22, 121, 300, 25),
  card("RTX 3090", 23.5, 71, 936, 25),
  card("RTX 4090", 23.5, 165, 1008, 25),
  card("RTX 5090", 31.3, 209, 1792, 50),
  card("A100 40GB", 39.4, 312, 1555, 25),
  card("RTX A6000", 47.4, 155, 768, 25),
  card("L40S", 44.5, 362, 864, 25),
  card("A100 80GB", 79.2, 312, 2039, 25),
  card("H100", 79.2, 989, 3350, 55),
  card("RTX PRO 6000", 94.9, 500, 1792, 50),
  card("H200", 139, 989, 4800, 55),
  card("B200", 178, 2250, 8000, 55),
];

export const CARD_NAMES: readonly string[] = CARDS.map(({ name }) => name);

/** Where nothing is said, and no measurement is at hand: a disk of today, and main memory of two channels. */
const DISK_RATE = 1.5 * GB;
const MEMORY_RATE = 20 * GB;

const PROCESS_BYTES = 400 * 2 ** 20;

const plain = (name: string): string => name.toLowerCase().replaceAll(/nvidia|geforce|[^a-z0-9]/g, "");

/** A card by its name, or by its memory. Errors: UserError for what is neither. */
export function cardOf(text: string): Card {
  const bytes = parseBytes(text);
  if (bytes !== undefined && bytes > 0) {
    const nearest = [...CARDS].sort((a, b) => Math.abs(a.bytes - bytes) - Math.abs(b.bytes - bytes))[0];
    return { ...nearest, bytes, name: `a card as fast as ${nearest.name}` };
  }
  const wanted = plain(text);
  const found = CARDS.filter(({ name }) => plain(name) === wanted);
  const alike = found.length > 0 ? found : CARDS.filter(({ name }) => wanted !== "" && plain(name).includes(wanted));
  if (alike.length === 1) return alike[0];
  const which = alike.length > 1 ? alike.map(({ name }) => name) : CARD_NAMES;
  throw new UserError(
    `gpu: "${text}" is ${alike.length > 1 ? "more than one card" : "not known"} (expected ${which.join(", ")}, or its memory, as 24GiB).`,
  );
}

export interface Described {
  /** Name or memory of a card; nothing for the one of `device`. */
  gpu: string;
  /** Sizes; nothing for what is free here. */
  memory: string;
  disk: string;
  /** Where a step computes unless a card is described. */
  device: string;
  /** Where files of a run would lie; need not exist. */
  folder: string;
}

/** The machine that is described, and in all else the one at hand. Takes a moment where its processor has to be measured. */
export function machineOf({ gpu, memory, disk, device, folder }: Described): Machine {
  const card = gpu !== "" ? cardOf(gpu) : isCpu(device) ? null : cardHere(deviceIndex(device));
  return {
    card,
    // Node and the engine, and freed blocks that are kept for reuse, come on top of what is planned.
    memoryBytes: parseBytes(memory) ?? Math.max(0, process.availableMemory() - PROCESS_BYTES),
    diskBytes: parseBytes(disk) ?? freeBytes(folder),
    // Nothing that is no number: a processor that is too slow to be measured is slow.
    flops: card === null ? Math.max(1e9, productFlops(fastestDtype("cpu"))) : 0,
    ...{ memoryRate: MEMORY_RATE, diskRate: DISK_RATE },
  };
}

/** The listed card that a driver's name speaks of: that with the longest name in it, and of several sizes the nearest. */
export function listedAs(name: string, bytes: number): Card | undefined {
  const keyOf = (each: Card): string => plain(each.name.replace(/ \d+GB$/, ""));
  return CARDS.filter((each) => plain(name).includes(keyOf(each))).sort(
    (a, b) => keyOf(b).length - keyOf(a).length || Math.abs(a.bytes - bytes) - Math.abs(b.bytes - bytes),
  )[0];
}

/** What CUDA and its libraries take of a card for themselves, and what is lost between tensors. */
const LIBRARY_BYTES = 600 * 2 ** 20;
const SHARE_OF_CARD = 0.97;

/** The card of this number, with the memory that is free now. Errors: UserError where the driver does not tell. */
function cardHere(index: number): Card {
  const query = ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits", `--id=${index}`];
  const { status, stdout } = spawnSync("nvidia-smi", query, { encoding: "utf8" });
  const [, name, mebibytes] = /^(.*), (\d+)$/m.exec(stdout ?? "") ?? [];
  if (status !== 0 || name === undefined)
    throw new UserError(
      `gpu: nvidia-smi does not say what cuda:${index} is. Name the card, as gpu: "RTX 4090" or gpu: 24GiB.`,
    );
  const bytes = Math.max(0, SHARE_OF_CARD * Number(mebibytes) * 2 ** 20 - LIBRARY_BYTES);
  return { ...(listedAs(name, bytes) ?? cardOf(`${mebibytes}MiB`)), bytes, name };
}
