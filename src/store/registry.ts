// The stores by the names that `parameters` gives them. A new one is a file and a line here: choices and help follow.
import { device } from "./device.js";
import { disk } from "./disk/working-copy.js";
import { host } from "./host.js";
import { sharded, shardedDisk } from "./sharded/sharded.js";
import type { StoreKind } from "./store.js";

const KINDS = { device, host, disk, sharded, "sharded-disk": shardedDisk } as const;

export type StoreName = keyof typeof KINDS;

export const STORES: Record<StoreName, StoreKind> = KINDS;

export const STORE_NAMES = Object.keys(STORES) as StoreName[];

/** "host: in main memory, to train on a GPU; ..." */
export const STORES_IN_WORDS = STORE_NAMES.flatMap((name) => {
  const { about } = STORES[name];
  return about === undefined ? [] : [`${name}: ${about}`];
}).join("; ");
