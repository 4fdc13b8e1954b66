// Lanes over the stand-in for NCCL, which is as strict about the order of rounds; and the real library's functions, where PyPI's package is.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { deviceIndex, isCpu } from "../device-name.js";
import { amax, amin, fill_ } from "../ops.js";
import { scope } from "../scope.js";
import { full, item } from "../tensor.js";
import { TEST_DEVICE } from "../testing-device.js";
import { findNccl, Lane, ncclCandidates, ncclId } from "./nccl.js";
import { makeNcclStandIn, sendRounds } from "./testing-nccl.js";

test("rounds bring what was sent, whatever the order inside of one", async (t) => {
  const library = makeNcclStandIn(t);
  assert.deepEqual(findNccl([library]), { library, version: "2.18.0", movesMainMemory: true });
  const [first, second] = await sendRounds(library, 60, [
    [
      { send: [3, 100_000], receive: [5] },
      { send: [], receive: [7, 7] },
      { send: [2], receive: [] },
    ],
    [
      { send: [5], receive: [3, 100_000] },
      { send: [7, 7], receive: [] },
      { send: [], receive: [2] },
    ],
  ]);
  assert.deepEqual([first, second], ["100 110 111", "0 1 20"]);
});

test("rounds in another order on one rank end with the limit, on both", async (t) => {
  const library = makeNcclStandIn(t);
  const [send, receive] = [
    { send: [4], receive: [] },
    { send: [], receive: [4] },
  ];
  const wrong = await sendRounds(library, 1, [
    [send, receive],
    [send, receive],
  ]);
  for (const said of wrong)
    assert.match(said, /^NCCL: (beginning|waiting for) a round: (nothing came within 1 s|a rank is gone)/);
  // The same in one round each is right.
  const both = { send: [4], receive: [4] };
  assert.deepEqual(await sendRounds(library, 60, [[both], [both]]), ["100", "0"]);
});

test("other sizes than were sent are an error, and so is a rank that is gone", async (t) => {
  const library = makeNcclStandIn(t);
  const sizes = await sendRounds(library, 60, [[{ send: [4], receive: [] }], [{ send: [], receive: [5] }]]);
  assert.match(sizes.join("\n"), /sizes that differ/);
  const gone = await sendRounds(library, 60, [[{ send: [4], receive: [4] }], [{ send: [], receive: [4] }]]);
  assert.match(gone[0], /^NCCL: (beginning|waiting for) a round: a rank is gone/);
});

test("a lane brings what a rank sends to itself, behind what computes it: on a card by the real library", (t) => {
  const [library, device] = isCpu(TEST_DEVICE)
    ? [makeNcclStandIn(t), "cpu"]
    : [findNccl().library, `cuda:${deviceIndex(TEST_DEVICE)}`];
  const lane = new Lane({ library, id: ncclId(library), rank: 0, world: 1, device, seconds: 60 });
  for (const size of [1, 1000, 5_000_000])
    scope(() => {
      const [sent, came] = [0, -1].map((value) => full([size], value, "float32", device));
      fill_(sent, size + 0.5);
      lane.send(sent, [0]);
      const ticket = lane.receive(came, 0);
      lane.begin();
      lane.wait(ticket);
      assert.deepEqual([item(amin(came)), item(amax(came))], [size + 0.5, size + 0.5]);
    });
  lane.close();
});

test("NCCL is looked for beside libtorch, then where the loader looks; the real one has all functions", (t) => {
  assert.deepEqual(ncclCandidates("/nowhere/torch/lib", ""), ["libnccl.so.2"]);
  assert.deepEqual(ncclCandidates("/nowhere/torch/lib", "/own/libnccl.so"), ["/own/libnccl.so"]);
  assert.throws(
    () => findNccl(["/nowhere/libnccl.so.2"]),
    /^Error: there is no NCCL \(\/nowhere\/libnccl\.so\.2: cannot open/,
  );
  const beside = join(dirname(dirname(resolveEngine().libDir)), "nvidia/nccl/lib");
  const real = ncclCandidates().filter((library) => library.startsWith(beside));
  if (real.length === 0) {
    t.skip("this libtorch has no NCCL beside it");
    return;
  }
  const { version, movesMainMemory } = findNccl(real);
  assert.match(version, /^2\.\d+\.\d+$/);
  assert.equal(movesMainMemory, false);
});
