// The manifests of examples/cluster/: they are YAML of the kind they say, the ranks of each pod are those that launch-names.ts finds, and all agree.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { parse } from "yaml";

import { kubeflowPlace, rankPlace } from "./launch-names.js";

interface Variable {
  name: string;
  value?: string;
  valueFrom?: { fieldRef: { fieldPath: string } };
}

const manifest = (name: string) =>
  parse(readFileSync(new URL(`../../examples/cluster/${name}`, import.meta.url), "utf8"));

test("the JobSet gives each pod its rank, and the address of the first", () => {
  const { apiVersion, kind, metadata, spec } = manifest("jobset.yaml");
  assert.deepEqual([apiVersion, kind], ["jobset.x-k8s.io/v1alpha2", "JobSet"]);
  const [{ name, replicas, template }, ...others] = spec.replicatedJobs;
  assert.deepEqual([replicas, others.length], [1, 0]);
  const { completions, parallelism, completionMode } = template.spec;
  assert.deepEqual([parallelism, completionMode], [completions, "Indexed"]);
  const [container] = template.spec.template.spec.containers;
  for (let pod = 0; pod < completions; pod++) {
    // What Kubernetes and JobSet annotate a pod with, in the second attempt.
    const annotations: Record<string, string> = {
      "batch.kubernetes.io/job-completion-index": `${pod}`,
      "jobset.sigs.k8s.io/restart-attempt": "1",
    };
    const said = ({ value, valueFrom }: Variable): string | undefined =>
      value ?? annotations[/^metadata\.annotations\['(.*)'\]$/.exec(valueFrom?.fieldRef.fieldPath ?? "")?.[1] ?? ""];
    const env = Object.fromEntries(container.env.map((each: Variable) => [each.name, said(each)]));
    assert.deepEqual(rankPlace(env), {
      ...{ rank: pod, world: completions, localRank: 0, serves: pod === 0, restarts: 1 },
      ...{ host: `${metadata.name}-${name}-0-0.${metadata.name}`, port: container.ports[0].containerPort },
      source: "RANK and WORLD_SIZE",
    });
  }
  assert.deepEqual(container.command.slice(0, 2), ["revmoe", "train"]);
});

test("the TrainJob leaves the names that Kubeflow sets alone, and asks for one rank a pod", () => {
  const { apiVersion, kind, spec } = manifest("trainjob.yaml");
  assert.deepEqual([apiVersion, kind], ["trainer.kubeflow.org/v1alpha1", "TrainJob"]);
  const { command, numNodes, numProcPerNode, env = [] } = spec.trainer;
  assert.deepEqual(command, ["revmoe", "launch"]);
  assert.deepEqual(
    env.filter(({ name }: Variable) => name.startsWith("PET_")),
    [],
  );
  // As its controller sets them.
  const given = { PET_NNODES: `${numNodes}`, PET_NPROC_PER_NODE: `${numProcPerNode}`, PET_NODE_RANK: "3" };
  const place = kubeflowPlace({ ...given, PET_MASTER_ADDR: "revmoe-node-0-0.revmoe", PET_MASTER_PORT: "29500" });
  assert.deepEqual(place, { nnodes: 4, nodeRank: 3, nproc: 1, host: "revmoe-node-0-0.revmoe", port: 29500 });
});
