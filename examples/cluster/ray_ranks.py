"""Starts a run with a rank a worker of Ray: python examples/cluster/ray_ranks.py WORLD CPUS revmoe train config.yaml ...

Each worker has CPUS processors. Ray Train is not used: it opens a process group of its own at MASTER_PORT.
"""
import os
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(max_retries=0)
def meeting_place() -> tuple[str, int]:
    """Address of this machine, and a port of it that is free now."""
    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), free.getsockname()[1]


@ray.remote(max_retries=0)
def train(command: list[str], names: dict[str, str]) -> int:
    return subprocess.run(command, env={**os.environ, **names}).returncode


def main() -> int:
    world, cpus, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ray.init()
    group = placement_group([{"CPU": cpus}] * world, strategy="SPREAD")
    ray.get(group.ready())
    place = lambda rank: {"num_cpus": cpus, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, rank)}
    host, port = ray.get(meeting_place.options(**place(0)).remote())
    names = {"WORLD_SIZE": world, "MASTER_ADDR": host, "MASTER_PORT": port, "OMP_NUM_THREADS": cpus}
    ranks = [train.options(**place(rank)).remote(command, {"RANK": str(rank), **{k: str(v) for k, v in names.items()}}) for rank in range(world)]
    # A rank that is lost ends the others by itself.
    return max(abs(code) for code in ray.get(ranks))


sys.exit(main())
