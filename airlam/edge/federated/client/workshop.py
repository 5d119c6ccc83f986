"""What a client process keeps between messages: the run, its sites' users, and one model for each rank."""

from __future__ import annotations

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import Places, Site
from airlam.edge.federated.learning.split import SplitLearner
from airlam.edge.federated.recipe.federation import Federation


class Workshop:
    """The models and users of a client process. Loading a model and drawing users takes longer than a short round, so
    both are kept for as long as this object lives; it belongs to the process's client app.

    Args:
        places: users that are drawn already, to be shared with another run of the same process; None: new ones.
    """

    def __init__(self, federation: Federation, places: Places | None = None):
        self.federation = federation
        self.places = Places() if places is None else places
        self._learners: dict[int | None, Learner] = {}
        self._splits: dict[tuple[int | None, int], SplitLearner] = {}

    def site(self, number: int) -> Site:
        """The site of client ``number``."""
        return self.places.site(self.federation, number)

    def learner(self, rank: int | None, arrays: Arrays | None = None, server_round: int = 1) -> Learner:
        """The learner of a rank with the weights ``arrays`` of a round; None: the weights of the start.

        It is valid until the next call: devices of one rank share a model, whose weights each call sets anew.
        """
        if rank not in self._learners:
            self._learners[rank] = Learner(self.federation, rank)
        learner = self._learners[rank]
        learner.load(learner.start() if arrays is None else arrays, server_round)
        return learner

    def split(self, rank: int | None, layers: int) -> SplitLearner:
        """The device's part of a model that is split after ``layers`` layers. Its trained adapters are set from the
        device's own state with each message; those that are frozen and not sent are set here."""
        key = (rank, layers)
        if key not in self._splits:
            learner = Learner(self.federation, rank)
            learner.load(learner.start(), 1)
            self._splits[key] = SplitLearner(self.federation, learner, layers)
        return self._splits[key]
