// Names of devices for ranks: a card each, one for several, and too few.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ALONE } from "../../parallel/collectives.js";
import { cardOf, deviceLine, rankDevices } from "./rank-device.js";

const seen = (localRank: number, cards: number, visible?: string) => ({ localRank, cards, visible });

test("cuda is the card of a rank's place on its machine, and any other name is what it says", () => {
  assert.equal(cardOf("cuda", seen(1, 2)), "cuda:1");
  assert.equal(cardOf("cuda", seen(0, 8, "4,5,6,7,0,1,2,3")), "cuda:0");
  assert.equal(cardOf("cuda:0", seen(1, 1)), "cuda:0");
  assert.equal(cardOf("cpu", seen(3, 2)), "cpu");
  // A launcher that shows each rank its own.
  assert.equal(cardOf("cuda", seen(3, 1, "3")), "cuda:0");
  // That there is no card at all is said elsewhere.
  assert.equal(cardOf("cuda", seen(3, 0)), "cuda");
});

test("a rank beyond the cards is refused on all ranks", () => {
  const wrong =
    /^device: cuda is the card of LOCAL_RANK, which is 2, and libtorch sees 2 CUDA device\(s\) .* set device to cuda:0/;
  assert.throws(() => cardOf("cuda", seen(2, 2, "0,1")), { name: "UserError", message: wrong });
  assert.throws(() => cardOf("cuda", seen(1, 1)), { name: "UserError" });
  const three = {
    ...ALONE,
    world: 3,
    gather: <T>(value: T): T[] => [{ device: "cuda:0" } as T, { device: "cuda:1" } as T, value],
  };
  assert.throws(() => rankDevices(three, "cuda", seen(2, 2)), { message: /^rank 2: device: cuda is the card/ });
  assert.deepEqual(rankDevices(three, "cuda", seen(2, 3)), ["cuda:0", "cuda:1", "cuda:2"]);
});

test("the devices of a run's ranks are said where there are cards", () => {
  assert.match(deviceLine(["cuda:0", "cuda:1"]) ?? "", /^devices: rank 0 on cuda:0, rank 1 on cuda:1;/);
  assert.equal(deviceLine(["cpu", "cpu"]), null);
});
