"""What travels between the server and each site: adapters cut to its rank, and of a split site those that it holds."""

from __future__ import annotations

from airlam.edge.federated.adapters import Arrays, Shapes, fitted
from airlam.edge.federated.recipe.federation import Federation
from airlam.models.split import on_device


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
