// Names of launchers into ranks: what each of them sets, and what is missing or contradicts.
import assert from "node:assert/strict";
import { test } from "node:test";

import { firstHost, kubeflowPlace, rankPlace } from "./launch-names.js";

const HERE = { MASTER_ADDR: "host-a", MASTER_PORT: "4000" };

test("torchrun, srun and mpirun say which rank a process is", () => {
  const torchrun = { ...HERE, RANK: "3", WORLD_SIZE: "4", LOCAL_RANK: "1" };
  const place = { rank: 3, world: 4, localRank: 1, host: "host-a", port: 4000, serves: false, restarts: 0 };
  assert.deepEqual(rankPlace(torchrun), { ...place, source: "RANK and WORLD_SIZE" });
  const first = { ...torchrun, RANK: "0", LOCAL_RANK: "0" };
  assert.equal(rankPlace(first)?.serves, true);
  const elastic = { ...first, TORCHELASTIC_USE_AGENT_STORE: "True", TORCHELASTIC_RESTART_COUNT: "2" };
  assert.deepEqual([rankPlace(elastic)?.serves, rankPlace(elastic)?.restarts], [false, 2]);
  const slurm = {
    ...{ SLURM_PROCID: "5", SLURM_STEP_NUM_TASKS: "8", SLURM_LOCALID: "1", SLURM_JOB_ID: "1234567" },
    SLURM_JOB_NODELIST: "gpu[07-10],login",
  };
  assert.deepEqual(rankPlace(slurm), {
    ...{ rank: 5, world: 8, localRank: 1, host: "gpu07", port: 24567, serves: false, restarts: 0 },
    source: "SLURM_PROCID and SLURM_STEP_NUM_TASKS",
  });
  assert.deepEqual([rankPlace({ ...slurm, ...HERE })?.host, rankPlace({ ...slurm, ...HERE })?.port], ["host-a", 4000]);
  const mpi = { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_LOCAL_SIZE: "2" };
  assert.deepEqual([rankPlace(mpi)?.host, rankPlace(mpi)?.port, rankPlace(mpi)?.serves], ["127.0.0.1", 29500, true]);
  // Where several say so, the most explicit.
  assert.equal(rankPlace({ ...slurm, ...mpi, ...torchrun })?.rank, 3);
});

test("a process by itself has no rank, whatever half a launcher has left", () => {
  for (const env of [
    {},
    { RANK: "3" },
    { WORLD_SIZE: "4" },
    { RANK: "0", WORLD_SIZE: "1" },
    // The shell of a batch script: nobody has started the other tasks.
    { SLURM_PROCID: "0", SLURM_NTASKS: "4", SLURM_JOB_NODELIST: "a[1-4]" },
    { OMPI_COMM_WORLD_RANK: "0" },
  ]) {
    assert.equal(rankPlace(env), null, JSON.stringify(env));
  }
});

test("what is missing or no number is said", () => {
  for (const [env, message] of [
    [{ RANK: "1", MASTER_ADDR: "a" }, /^RANK: 1 is set and WORLD_SIZE is not \(expected both/],
    [{ WORLD_SIZE: "2", MASTER_ADDR: "a" }, /^WORLD_SIZE: 2 is set and RANK is not/],
    [{ RANK: "1", WORLD_SIZE: "2" }, /^MASTER_PORT is missing: 2 ranks must know where to meet/],
    [{ RANK: "1", WORLD_SIZE: "2", MASTER_PORT: "1" }, /^MASTER_ADDR is missing/],
    [{ ...HERE, RANK: "2", WORLD_SIZE: "2" }, /^RANK and WORLD_SIZE: rank 2 of 2 \(expected a rank from 0 to 1\)/],
    [{ ...HERE, RANK: "one", WORLD_SIZE: "2" }, /^RANK: "one" \(expected a whole number of at least 0\)/],
    [{ ...HERE, RANK: "0", WORLD_SIZE: "0" }, /^WORLD_SIZE: "0" \(expected a whole number of at least 1\)/],
    [{ ...HERE, RANK: "0", WORLD_SIZE: "2", MASTER_PORT: "" }, /^MASTER_PORT: ""/],
  ] as const) {
    assert.throws(() => rankPlace(env), { name: "UserError", message }, JSON.stringify(env));
  }
});

test("the first host of a list as Slurm writes it", () => {
  for (const [list, first] of [
    ["node1", "node1"],
    ["a,b", "a"],
    ["node[003-005,9],login1", "node003"],
    ["gpu-[1,3]-x[2-4].here,b", "gpu-1-x2.here"],
  ])
    assert.equal(firstHost(list), first);
});

test("Kubeflow says how many processes a machine starts", () => {
  assert.deepEqual(
    kubeflowPlace({
      PET_NNODES: "2",
      PET_NODE_RANK: "1",
      PET_NPROC_PER_NODE: "auto",
      PET_MASTER_ADDR: "a",
      PET_MASTER_PORT: "9",
    }),
    { nnodes: 2, nodeRank: 1, nproc: 1, host: "a", port: 9 },
  );
  assert.equal(kubeflowPlace({ PET_NPROC_PER_NODE: "4" }).nproc, 4);
  assert.throws(() => kubeflowPlace({ PET_NNODES: "1:4" }), /PET_NNODES: "1:4" \(expected a whole number/);
});
