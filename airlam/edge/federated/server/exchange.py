"""What travels between the server and each site: adapters cut to its rank, and of a split site those that it holds."""

from __future__ import annotations

from airlam.edge.federated.adapters import Arrays, Shapes, fitted
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.updates import problem_of
from airlam.edge.federated.wire import decode, encode
from airlam.models.split import on_device
from airlam.seeds import noise_seed

DOWN = 104  # key of seeds


class Exchange:
    """The arrays of each site, from those of the server.

    Args:
        shapes: adapted layer -> (out, in); empty where all weights travel.
    """

    def __init__(self, federation: Federation, shapes: Shapes):
        self.federation, self.shapes = federation, shapes

    def view(self, site: int, everything: Arrays) -> Arrays:
        """The server's arrays with the adapters that the site holds cut to its rank. The layers that the server holds
        for a split site keep the largest rank."""
        rank = self._rank(site)
        return everything if rank is None else everything | fitted(self.on_device(site, everything), rank)

    def on_device(self, site: int, arrays: Arrays) -> Arrays:
        """The adapters that a split site holds; all arrays of a site that is not split."""
        spec = self.federation.site_specs[site]
        if spec.mode == "local":
            return arrays
        return {name: value for name, value in arrays.items() if on_device(name[2:], spec.split_layers)}

    def coded(self, site: int, view: Arrays, number: int) -> Arrays:
        """What a site is sent in round ``number``, as it travels: :meth:`view`, in eight bits if the run says so."""
        f = self.federation
        return view if f.wire == "float32" else encode(view, noise_seed(f.seed, DOWN, f.site_specs[site].seed, number))

    def received(self, site: int, coded: Arrays, sent: Arrays, number: int) -> Arrays:
        """The update of a site from its reply. In eight bits a reply holds the change, which is added to the exact
        arrays; one of other names or shapes is given back as it is, for :func:`.updates.problem_of` to tell.

        Raises:
            ValueError: it is no update in eight bits.
        """
        if self.federation.wire == "float32":
            return coded
        change = decode(coded)
        if problem_of(change, self.expected(site, sent)):
            return change
        start = self.start_of(site, sent, number)
        return {name: start[name] + value for name, value in change.items()}

    def expected(self, site: int, sent: Arrays) -> Arrays:
        """Arrays with the names and shapes of a whole update of a site that was sent ``sent``."""
        f, rank = self.federation, self._rank(site)
        if rank is None or f.site_specs[site].mode == "split":  # the layers of a split site have two ranks
            return sent
        return f.scheme.update(self.shapes, rank)

    def start_of(self, site: int, sent: Arrays, number: int) -> Arrays:
        """What the site's training began from in round ``number``: what it was sent, and what it drew itself."""
        f, rank = self.federation, self._rank(site)
        return sent if rank is None else sent | f.scheme.drawn(self.shapes, rank, f.seed, number)

    def _rank(self, site: int) -> int | None:
        return self.federation.rank_of(self.federation.site_specs[site])
