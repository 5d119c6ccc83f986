"""Where a network for positions starts from: estimates of a classic method that did not see the user's own label."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from airlam.baselines.positioning import PositionEstimate, RadioMap, tuned
from airlam.baselines.positioning.tuning import Tuned
from airlam.csi import SiteCSI
from airlam.models.position import PositionInputs

FOLDS, MANY = 5, 200  # of labelled users, whose starts come from maps of the others; two where they are many
Start = Callable[[SiteCSI], PositionEstimate]


def unseen_starts(maps: Tuned, labelled: SiteCSI) -> PositionEstimate:
    """What maps of the other labelled users say of each labelled user."""
    folds = FOLDS if len(labelled) <= MANY else 2
    mean = torch.zeros(len(labelled), 2, dtype=torch.float64)
    covariance = torch.zeros(len(labelled), 2, 2, dtype=torch.float64)
    number = torch.arange(len(labelled)) % folds
    for fold in range(folds):
        there = (number == fold).nonzero()[:, 0]
        found = RadioMap(**maps.settings).fit(labelled[(number != fold).nonzero()[:, 0]]).locate(labelled[there])
        mean[there], covariance[there] = found.mean, found.scaled(maps.factor).covariance
    return PositionEstimate(mean, covariance)


def everywhere(labelled: SiteCSI) -> Start:
    """The start that knows nothing of a user: where labelled users are."""
    place = labelled.known()[:, :2]
    spread = place.T.cov() + torch.eye(2, dtype=torch.float64)

    def start(csi: SiteCSI) -> PositionEstimate:
        return PositionEstimate(place.mean(0).expand(len(csi), 2), spread.expand(len(csi), 2, 2))

    return start


class PositionStarts:
    """Makes the batches of :class:`~airlam.tasks.Positioning`: ``prepare`` of :class:`airlam.data.SiteDataModule`.

    Kriged maps learn from the training users; the validation users choose their settings and the size of their
    ellipses. Training users are located by maps of the others (five folds; two for more than 200 users).

    Args:
        maps: False: the start is where the training users are, and the network learns from the CSI alone.

    Example:
        >>> h = torch.randn(24, 3, 64, 8, dtype=torch.complex64)
        >>> csi = SiteCSI(h, torch.zeros(3, 4), 1e6, (2, 4, 1), 50 * torch.rand(24, 3))
        >>> [tuple(x.shape) for x in PositionStarts(maps=False)({"train": csi})["train"]]
        [(24, 3, 105), (24, 2), (24, 2, 2), (24, 2)]
    """

    def __init__(self, maps: bool = True):
        self.maps = maps

    def __call__(self, users: dict[str, SiteCSI]) -> dict[str, tuple[Tensor, ...]]:
        """Inputs and true places [m] of each split: ``stations [user, station, feature]``, ``mean [user, 2]``,
        ``factor [user, 2, 2]``, ``position [user, 2]``."""
        labelled = users["train"]
        if self.maps:
            found = tuned(RadioMap, labelled, users["val"])
            start, starts = found.locate, unseen_starts(found, labelled)
        else:
            start = everywhere(labelled)
            starts = start(labelled)
        return {
            split: (
                *PositionInputs.of(csi, starts if split == "train" else start(csi)),
                csi.known()[:, :2].float(),
            )
            for split, csi in users.items()
        }
