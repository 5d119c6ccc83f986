"""Who is there, who takes part in a round, and what the round cost: measured bytes, modelled seconds and joules."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from airlam.edge.federated.adapters import Arrays, fitted, fresh_a
from airlam.edge.federated.federation import DENSE, Federation
from airlam.edge.federated.messages import check_examples, numbers_of, same_key, shown, wire_bytes
from airlam.edge.selection import Allocation, Candidate, choose
from airlam.models.split import on_device
from airlam.resources import draw_link


@dataclass
class RoundRecord:
    """One round. Sites are indices in the maps of costs and labels in those of events.

    Attributes:
        number: from 1; 0 is the look before the first.
        chosen: sites that were sent the model. outage: labels of those that no bandwidth could have reached.
        down_bytes, up_bytes: measured, arrays as they are sent.
        bandwidth: Hz of each. seconds: modelled download, computation, upload of each. joules: modelled, of the device.
        delay: modelled seconds of the round: of its slowest device, and of the edge server for split devices
            (server_seconds; server_joules: its energy).
        compute_seconds: measured, of each device's training on this machine.
        figures: label -> figure of the validation users; train_loss: mean of the devices'.
        lost, rejected: label -> why.
        aggregation_error: of the new adapters' products against the average of the devices' products, relative;
            naive_error: what averaging A and B by themselves would have missed.
        strays: why nodes could not say who they are, or look at their users.
        used: updates that were averaged; None where only their sum is known. notes: what weakened the round.
        look_bytes: measured, of the model as it went to the validation users: the experimenter's, in no other figure.
        epsilon: spent so far; None without noise, or with so little that there is no bound.
    """

    number: int
    chosen: list[int] = field(default_factory=list)
    outage: list[str] = field(default_factory=list)
    down_bytes: dict[int, int] = field(default_factory=dict)
    up_bytes: dict[int, int] = field(default_factory=dict)
    bandwidth: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    joules: dict[int, float] = field(default_factory=dict)
    delay: float = 0.0
    server_seconds: float = 0.0
    server_joules: float = 0.0
    compute_seconds: dict[int, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    lost: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    aggregation_error: float | None = None
    naive_error: float | None = None
    epsilon: float | None = None
    strays: list[str] = field(default_factory=list)
    used: int | None = None
    notes: list[str] = field(default_factory=list)
    look_bytes: int = 0

    def lose(self, label: str, why: object) -> None:
        """Note that a site's reply did not arrive."""
        self.lost[label] = shown(why)

    def reject(self, label: str, why: object) -> None:
        """Note that a site's reply cannot be used."""
        self.rejected[label] = shown(why)

    def reply(self, site: int, seconds: float, size: int) -> None:
        """Note what a device sent, and how long it computed."""
        self.up_bytes[site] = self.up_bytes.get(site, 0) + size
        self.compute_seconds[site] = self.compute_seconds.get(site, 0.0) + seconds

    @property
    def bytes(self) -> int:
        """Up and down, all devices."""
        return sum(self.down_bytes.values()) + sum(self.up_bytes.values())

    @property
    def mean_figure(self) -> float | None:
        """Mean over sites of the figure."""
        return float(np.mean(list(self.figures.values()))) if self.figures else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of :meth:`from_dict`."""
        return {key: value for key, value in asdict(self).items() if value not in ({}, [], None)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RoundRecord:
        """See :meth:`to_dict`; JSON made texts of the sites' numbers."""
        numbered = ("down_bytes", "up_bytes", "bandwidth", "seconds", "joules", "compute_seconds")
        values: dict[str, Any] = dict(data)
        for name in numbered:
            values[name] = {int(site): value for site, value in data.get(name, {}).items()}
        return cls(**values)


class Roster:
    """The nodes of a grid as sites, and their radio.

    Args:
        shapes: adapted layer -> (out, in); empty where all weights travel.
        keys: public key of each site's node, in the sites' order (PEM, as Flower's SuperLink knows nodes). A node is
            then believed to be a site only if the key is that site's. Empty: nodes are not authenticated, and the
            first node that claims a site has it.

    Attributes:
        sites: node id -> number of its site.
    """

    def __init__(self, federation: Federation, shapes: dict[str, tuple[int, int]], keys: Sequence[bytes] = ()):
        self.federation, self.shapes, self.keys = federation, shapes, list(keys)
        self.sites: dict[int, int] = {}
        self.samples: dict[int, int] = {}
        self.flops: dict[int, float] = {}
        self.activations: dict[int, float] = {}
        self.server_flops: dict[int, float] = {}
        self.troubles: list[str] = []  # of nodes that could not say who they are
        self.seen: dict[int, int] = {}  # site -> round it last took part in

    def gather(self, grid: Grid, patience: float = 60.0, longest: float = 3600.0) -> None:
        """Wait for the nodes of all sites; after ``patience`` seconds those that are there will do.

        Raises:
            TimeoutError: nobody came within ``longest`` seconds.
        """
        began = time.monotonic()
        while (there := len(list(grid.get_node_ids()))) < len(self.federation.sites):
            waited = time.monotonic() - began
            if there and waited > patience:
                break
            if waited > longest:
                raise TimeoutError(f"no node connected within {longest:g} s; start the SuperNodes of the sites")
            time.sleep(0.5)
        self.meet(grid)
        if not self.sites:
            raise RuntimeError(f"no site can take part: {self.troubles[0] if self.troubles else 'nobody answered'}")

    def meet(self, grid: Grid, timeout: float = 600.0) -> None:
        """Ask nodes that are new which site they are; forget those that left."""
        present = set(grid.get_node_ids())
        known = {node.node_id: node.public_key for node in grid.get_nodes()} if self.keys else {}
        self.sites = {node: site for node, site in self.sites.items() if node in present}
        new = sorted(present - set(self.sites))
        asked = [Message(RecordDict({"config": ConfigRecord({})}), node, "query.describe") for node in new]
        for reply in grid.send_and_receive(asked, timeout=timeout) if asked else []:
            if reply.has_error():
                self.troubles.append(shown(reply.error.reason or "no reason given"))
                continue
            try:
                said = numbers_of(reply, "site", "num-examples", "flops", "activations", "server-flops")
                site = self._site_of(said["site"], known.get(reply.metadata.src_node_id))
                check_examples(said["num-examples"], self.federation.users_of(site))
            except ValueError as error:
                self.troubles.append(shown(f"a node's description cannot be used: {error}"))
                continue
            self.sites[reply.metadata.src_node_id] = site
            self.samples[site], self.flops[site] = int(said["num-examples"]), said["flops"]
            self.activations[site], self.server_flops[site] = said["activations"], said["server-flops"]

    def _site_of(self, claimed: float, key: bytes | None) -> int:
        """The site that a new node claims to be.

        Raises:
            ValueError: there is no such site, another node has it, or the node's key is not that site's.
        """
        count = len(self.federation.sites)
        if claimed != int(claimed) or claimed >= count:
            raise ValueError(f"it says that it is site {claimed:g}, but the sites are 0 to {count - 1}")
        site = int(claimed)
        if self.keys and not same_key(key, self.keys[site]):
            raise ValueError(f"it says that it is site {site}, but its key is not that site's")
        if site in self.sites.values():
            raise ValueError(f"it says that it is site {site}, which another node is already")
        return site

    def view(self, site: int, everything: Arrays) -> Arrays:
        """The model as a device sees it: adapters cut to its rank, those that the server holds for it as they are."""
        f = self.federation
        rank = f.rank_of(f.sites[site])
        return everything if rank is None else everything | fitted(self.on_device(site, everything), rank)

    def by_site(self, replies: Iterable[Message], strays: list[str]) -> list[tuple[int, Message]]:
        """Replies with their sites, in the sites' order, so that no engine's order of arrival moves a bit.

        Where a node has gone, the SuperLink answers in its own name: such a reason goes into ``strays``.
        """
        known = []
        for reply in replies:
            if reply.metadata.src_node_id in self.sites:
                known.append((self.sites[reply.metadata.src_node_id], reply))
            elif reply.has_error():
                strays.append(shown(reply.error.reason or "the node is gone"))
        return sorted(known, key=lambda pair: pair[0])

    def expected(self, site: int, seen: Arrays) -> Arrays:
        """Names and shapes of a whole update of a device that saw ``seen``."""
        f = self.federation
        rank = f.rank_of(f.sites[site])
        if rank is None or f.aggregation not in DENSE:
            return seen
        return empty_adapters(self.shapes, rank)

    def on_device(self, site: int, arrays: Arrays) -> Arrays:
        """Those adapters that a split device holds; all of a device that is not split."""
        spec = self.federation.sites[site]
        if spec.mode == "local":
            return arrays
        return {name: value for name, value in arrays.items() if on_device(name[2:], spec.split_layers)}

    def start_of(self, site: int, sent: Arrays, number: int) -> Arrays:
        """What a device's training began from, in the arrays that it sends back."""
        f = self.federation
        rank = f.rank_of(f.sites[site])
        if rank is None or f.aggregation != "stacking":
            return sent
        zeros = {f"B/{name}": np.zeros((shape[0], rank), np.float32) for name, shape in self.shapes.items()}
        return fresh_a(self.shapes, rank, f.seed, number) | zeros

    def candidates(self, number: int, arrays: Arrays) -> dict[int, Candidate]:
        """The sites that are there and not in outage, with this round's radio."""
        f, found = self.federation, {}
        for site in sorted(set(self.sites.values())):
            spec, seen = f.sites[site], self.view(site, arrays)
            link = draw_link(
                f.cell, spec.distance_m, spec.device.transmit_dbm, place_seed=spec.seed, round_seed=[f.seed, number]
            )
            if link.in_outage:
                continue
            age = number - self.seen.get(site, 0)
            found[site] = Candidate(
                spec.device,
                link,
                flops=self.flops[site],
                down_bytes=wire_bytes(self.on_device(site, seen)) + self.activations[site],
                up_bytes=wire_bytes(self.on_device(site, self.expected(site, seen))) + self.activations[site],
                samples=self.samples[site],
                must=age >= f.selection.get("max_age", math.inf),
            )
        return found

    def plan(self, grid: Grid, number: int, arrays: Arrays) -> RoundRecord:
        """Who takes part in round ``number``, with which share of the band, and what that takes."""
        f = self.federation
        self.meet(grid)
        record, found = RoundRecord(number), self.candidates(number, arrays)
        record.strays, self.troubles = self.troubles, []
        record.outage = [f.sites[site].label for site in sorted(set(self.sites.values())) if site not in found]
        if not found:
            return record
        numbers, candidates = list(found), list(found.values())
        allocation: Allocation = choose(
            f.selection["policy"], candidates, min(f.selection["devices"], len(candidates)),
            server_round=number, seed=f.seed, max_joules=f.selection.get("max_joules"),
        )  # fmt: skip
        for index, bandwidth in zip(allocation.chosen, allocation.bandwidth, strict=True):
            site, seconds = numbers[index], candidates[index].seconds(bandwidth)
            if not math.isfinite(sum(seconds)):  # an equal share is too wide for its power
                record.outage.append(f.sites[site].label)
                continue
            record.chosen.append(site)
            record.bandwidth[site], record.seconds[site] = bandwidth, list(seconds)
            record.joules[site] = candidates[index].joules(bandwidth)
            self.seen[site] = number
        record.delay = max((sum(s) for s in record.seconds.values()), default=0.0)
        # the edge server computes for all split devices, between their messages
        record.server_seconds = f.server.compute_seconds(sum(self.server_flops.get(n, 0.0) for n in record.chosen))
        record.delay += record.server_seconds
        record.server_joules = f.server.compute_watts * record.server_seconds
        return record


def empty_adapters(shapes: dict[str, tuple[int, int]], rank: int) -> Arrays:
    """Zero arrays with the names and shapes of the adapters of ``rank``."""
    made: Arrays = {f"A/{name}": np.zeros((rank, shape[1]), np.float32) for name, shape in shapes.items()}
    return made | {f"B/{name}": np.zeros((shape[0], rank), np.float32) for name, shape in shapes.items()}
