// How many processes `revmoe launch` starts, and where they meet.
import assert from "node:assert/strict";
import { test } from "node:test";

import { nodePlace, run } from "./launch.js";

const OPEN = { nproc: 0, nnodes: 0, node_rank: -1, master_addr: "", master_port: 0 };
const KUBEFLOW = {
  ...{ PET_NNODES: "3", PET_NODE_RANK: "2", PET_NPROC_PER_NODE: "auto" },
  ...{ PET_MASTER_ADDR: "job-0", PET_MASTER_PORT: "1234" },
};

test("what is asked comes before what Kubeflow says, and one machine needs neither", async () => {
  const place = { nproc: 1, nnodes: 3, nodeRank: 2, host: "job-0", port: 1234 };
  assert.deepEqual(await nodePlace(OPEN, KUBEFLOW), place);
  const asked = { nproc: 4, nnodes: 5, node_rank: 0, master_addr: "here", master_port: 99 };
  assert.deepEqual(await nodePlace(asked, KUBEFLOW), { nproc: 4, nnodes: 5, nodeRank: 0, host: "here", port: 99 });
  const { port, ...alone } = await nodePlace({ ...OPEN, nproc: 2 }, {});
  assert.deepEqual(alone, { nproc: 2, nnodes: 1, nodeRank: 0, host: "127.0.0.1" });
  assert.ok(port > 0);
});

test("several machines must be told where to meet, and which each of them is", async () => {
  await assert.rejects(nodePlace({ ...OPEN, nnodes: 2 }, {}), {
    name: "UserError",
    message: "master_addr: 2 machines must know where rank 0 is. Give --master-addr, the same on all.",
  });
  await assert.rejects(
    nodePlace({ ...OPEN, nnodes: 2, node_rank: 2 }, {}),
    /^UserError: node_rank: 2 of 2 machines \(expected 0 to 1\)/,
  );
  const out = { write() {} };
  await assert.rejects(
    run({ settings: OPEN, given: new Set(), json: false, passed: [], out, err: out }),
    /^UserError: launch: no command is given/,
  );
});
