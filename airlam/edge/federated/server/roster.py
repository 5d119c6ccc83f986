"""Who is there: the nodes of Flower's grid as the sites of the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from airlam.edge.federated.messages import check_examples, numbers_of, same_key, shown
from airlam.edge.federated.recipe.federation import Federation

COSTS = ("num-examples", "flops", "activations", "server-flops")


class Roster:
    """Which node of a grid is which site, and what each site says that a round costs it.

    Args:
        keys: public key of each site's node, in the sites' order (PEM, as Flower's SuperLink knows nodes). A node is
            then believed to be a site only if the key is that site's. Empty: nodes are not authenticated, and the
            first node that claims a site has it.

    Attributes:
        sites: node id -> number of its site.
        costs: number of a site -> ``num-examples``, ``flops``, ``activations``, ``server-flops``.
        troubles: why nodes could not be taken for a site, since this was last emptied.
    """

    def __init__(self, federation: Federation, keys: Sequence[bytes] = ()):
        self.federation, self.keys = federation, list(keys)
        self.sites: dict[int, int] = {}
        self.costs: dict[int, dict[str, float]] = {}
        self.troubles: list[str] = []

    def gather(self, grid: Grid, patience: float = 60.0, longest: float = 3600.0) -> None:
        """Wait for the nodes of all sites; after ``patience`` seconds those that are there will do.

        Raises:
            TimeoutError: nobody came within ``longest`` seconds.
        """
        began = time.monotonic()
        while (there := len(list(grid.get_node_ids()))) < len(self.federation.site_specs):
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
                said = numbers_of(reply, "site", *COSTS)
                site = self._site_of(said["site"], known.get(reply.metadata.src_node_id))
                check_examples(said["num-examples"], self.federation.users_of(site))
            except ValueError as error:
                self.troubles.append(shown(f"a node's description cannot be used: {error}"))
                continue
            self.sites[reply.metadata.src_node_id] = site
            self.costs[site] = {name: said[name] for name in COSTS}

    def _site_of(self, claimed: float, key: bytes | None) -> int:
        """The site that a new node claims to be.

        Raises:
            ValueError: there is no such site, another node has it, or the node's key is not that site's.
        """
        count = len(self.federation.site_specs)
        if claimed != int(claimed) or claimed >= count:
            raise ValueError(f"it says that it is site {claimed:g}, but the sites are 0 to {count - 1}")
        site = int(claimed)
        if self.keys and not same_key(key, self.keys[site]):
            raise ValueError(f"it says that it is site {site}, but its key is not that site's")
        if site in self.sites.values():
            raise ValueError(f"it says that it is site {site}, which another node is already")
        return site

    def by_site(self, replies: Iterable[Message], strays: list[str]) -> list[tuple[int, Message]]:
        """Replies with their sites, in the sites' order, so that results do not depend on the order of arrival.

        Where a node has gone, the SuperLink answers in its own name; that reason goes into ``strays``.
        """
        known = []
        for reply in replies:
            if reply.metadata.src_node_id in self.sites:
                known.append((self.sites[reply.metadata.src_node_id], reply))
            elif reply.has_error():
                strays.append(shown(reply.error.reason or "the node is gone"))
        return sorted(known, key=lambda pair: pair[0])
