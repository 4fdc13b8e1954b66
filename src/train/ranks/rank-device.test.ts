// Names of devices for ranks: a card each, one for several, and too few.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ALONE } from "../../parallel/collectives.js";
import { deviceOfRank, deviceLine, ncclLibrary, rankDevices } from "./rank-device.js";

const seen = (localRank: number, cards: number, visible?: string) => ({
  ...{ localRank, cards, visible },
  machine: "a",
});

test("cuda is the card of a rank's place on its machine, and any other name is what it says", () => {
  assert.equal(deviceOfRank("cuda", seen(1, 2)), "cuda:1");
  assert.equal(deviceOfRank("cuda", seen(0, 8, "4,5,6,7,0,1,2,3")), "cuda:0");
  assert.equal(deviceOfRank("cuda:0", seen(1, 1)), "cuda:0");
  assert.equal(deviceOfRank("cpu", seen(3, 2)), "cpu");
  // A launcher that shows each rank its own.
  assert.equal(deviceOfRank("cuda", seen(3, 1, "3")), "cuda:0");
  // That there is no card at all is said elsewhere.
  assert.equal(deviceOfRank("cuda", seen(3, 0)), "cuda");
});

test("a rank beyond the cards is refused on all ranks", () => {
  const wrong =
    /^device: cuda is the card of LOCAL_RANK, which is 2, and libtorch sees 2 CUDA device\(s\) .* set device to cuda:0/;
  assert.throws(() => deviceOfRank("cuda", seen(2, 2, "0,1")), { name: "UserError", message: wrong });
  assert.throws(() => deviceOfRank("cuda", seen(1, 1)), { name: "UserError" });
  const three = {
    ...ALONE,
    world: 3,
    gather: <T>(value: T): T[] => [
      { found: { own: "cuda:0", card: "a,,cuda:0" } } as T,
      { found: { own: "cuda:1", card: "a,,cuda:1" } } as T,
      value,
    ],
  };
  assert.throws(() => rankDevices(three, "cuda", seen(2, 2)), { message: /^rank 2: device: cuda is the card/ });
  assert.deepEqual(rankDevices(three, "cuda", seen(2, 3)), ["cuda:0", "cuda:1", "cuda:2"]);
  // Each rank is shown the same card, and none was asked for by number.
  const shown = { ...ALONE, world: 2, gather: <T>(value: T): T[] => [value, value] };
  assert.throws(() => rankDevices(shown, "cuda", seen(1, 1, "0")), {
    name: "UserError",
    message: /^device: ranks 0 and 1 of one machine would share its only visible card/,
  });
  assert.deepEqual(rankDevices(shown, "cuda:0", seen(1, 1, "0")), ["cuda:0", "cuda:0"]);
});

test("the devices of a run's ranks are said where there are cards", () => {
  assert.match(
    deviceLine(["cuda:0", "cuda:1"], "gloo") ?? "",
    /^devices: rank 0 on cuda:0, rank 1 on cuda:1;.*main memory$/,
  );
  assert.match(deviceLine(["cuda:0", "cuda:1"], "nccl") ?? "", /over NCCL$/);
  assert.equal(deviceLine(["cpu", "cpu"], "gloo"), null);
});

test("NCCL needs a library and a card of its own for every rank", () => {
  const nccl = { library: "/nccl.so", version: "2.27.3", movesMainMemory: false };
  const two = (rank0: object) => ({
    ...ALONE,
    ...{ rank: 1, world: 2 },
    gather: <T>(value: T): T[] => [rank0 as T, value],
  });
  const other = (changes: object) =>
    two({ found: { library: "/other.so", version: "2.27.3", card: "a, card 0", isCard: true, ...changes } });
  const at = { machine: "a", visible: undefined, find: () => nccl };
  assert.equal(ncclLibrary(other({}), "cuda:1", at), "/nccl.so");
  assert.equal(ncclLibrary(other({}), "cuda:0", { ...at, machine: "b" }), "/nccl.so");
  assert.equal(ncclLibrary(other({}), "cuda:0", { ...at, visible: "1" }), "/nccl.so");
  const refused = (ranks: typeof ALONE, device: string, changes: Partial<typeof at>, message: RegExp) =>
    assert.throws(() => ncclLibrary(ranks, device, { ...at, ...changes }), { name: "UserError", message });
  refused(
    other({}),
    "cuda:0",
    {},
    /^rank_transport: nccl needs a card for each rank, and ranks 0 and 1 share one \(a, card 0\)/,
  );
  refused(other({ version: "2.18.0" }), "cuda:1", {}, /rank 1 has NCCL 2\.27\.3, and rank 0 2\.18\.0/);
  refused(other({}), "cpu", {}, /^rank 1: rank_transport: nccl sends from card to card, and device is cpu/);
  const find = (): never => {
    throw new Error("there is no NCCL (libnccl.so.2: not found)");
  };
  refused(
    other({}),
    "cuda:1",
    { find },
    /^rank 1: rank_transport: nccl: there is no NCCL .*\. Set REVMOE_NCCL to the library/,
  );
  refused(two({ problem: "there is no NCCL" }), "cuda:1", {}, /^rank 0: there is no NCCL/);
});
