"""Several Ray nodes on one machine: for tests of placement and faults. Real nodes are started with ``ray start``."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from airlam.serving.cluster.start import STORE_BYTES, need_ray, settings
from airlam.serving.listening import Listen


class EmulatedNodes:
    """A head node, and one node for each entry.

    Args:
        nodes: name -> processor cores. A node offers its name as a resource, by which services are placed on it.
        offers: name -> further resources that the node offers, and how much of each.

    Attributes:
        address: for :func:`airlam.serving.cluster.start_cluster`.
    """

    def __init__(
        self, nodes: Mapping[str, float], listen: Listen, offers: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        need_ray()
        os.environ.update(settings(listen))
        from ray.cluster_utils import Cluster

        common: dict[str, Any] = {"object_store_memory": STORE_BYTES // 2, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
        self._nodes = {}
        for name, cores in nodes.items():
            offered = {name: 1.0, **(offers or {}).get(name, {})}
            self._nodes[name] = self._cluster.add_node(num_cpus=cores, resources=offered, **common)
        self.address = self._cluster.address

    def name_of(self, number: int) -> str:
        """The node that a process of :func:`processes` runs on: Ray's agent of a node is the parent of its workers."""
        import psutil

        parent = psutil.Process(number).ppid()
        agents = {
            agent.process.pid: name
            for name, node in self._nodes.items()
            for agent in node.all_processes.get("raylet", [])
        }
        return agents.get(parent, "head")

    def kill(self, name: str) -> None:
        """Kill a node and all that runs on it, without a warning."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def kill_head(self) -> None:
        """Kill the head node, with Ray's own state, without a warning. What runs elsewhere runs on for a while."""
        for kind in ("gcs_server", "raylet"):
            for each in self._cluster.head_node.all_processes.get(kind, []):
                kill(each.process.pid)

    def close(self) -> None:
        """End all nodes. The driver must have left before."""
        for name in list(self._nodes):
            self.kill(name)
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def __enter__(self) -> EmulatedNodes:
        return self

    def __exit__(self, *_: Any) -> None:
        import ray

        ray.shutdown()
        self.close()


def processes(title: str) -> list[int]:
    """Numbers of the processes of this user's Ray whose title holds a text, such as ``ServeReplica`` or
    ``ProxyActor``."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith("ray::") and title in command[0]:
            found.append(process.pid)
    return sorted(found)


def kill(number: int) -> None:
    """SIGKILL a process."""
    os.kill(number, signal.SIGKILL)
