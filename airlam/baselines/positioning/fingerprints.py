"""Nearest neighbours in fingerprints: the usual classic of positioning."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.positioning.features import fingerprint
from airlam.baselines.positioning.site import PositionEstimate
from airlam.csi import SiteCSI


class NearestFingerprints:
    """Mean position of the ``neighbours`` labelled users whose beam-delay powers are most alike.

    Args:
        neighbours: how many.
        metric: ``"l1"``, ``"l2"`` or ``"cosine"``, between ``scale``\\ d powers.
        scale: ``"log"``, log10 of one plus the power over the noise, or ``"root"``, its square root.

    The covariance is that of the neighbours' positions, plus the mean squared distance between neighbouring labels.
    """

    GRID = tuple(
        {"neighbours": k, "metric": metric, "scale": scale}
        for k in (1, 2, 3, 5, 8)
        for metric in ("l1", "l2", "cosine")
        for scale in ("log", "root")
    )

    def __init__(self, neighbours: int = 3, metric: str = "cosine", scale: str = "log"):
        self.neighbours, self.metric, self.scale = neighbours, metric, scale

    def fit(self, csi: SiteCSI) -> NearestFingerprints:
        """Remember labelled users; returns itself."""
        self.place, self.prints = csi.known()[:, :2], self._prints(csi)
        gap = torch.cdist(self.place, self.place) + torch.diag(torch.full((len(csi),), torch.inf).double())
        self.floor = float(gap.amin(1).square().mean()) / 2 if len(csi) > 1 else 1.0
        return self

    def neighbours_of(self, csi: SiteCSI) -> tuple[Tensor, Tensor]:
        """Weights, which sum to one, and numbers of each user's nearest labelled users, ``[user, neighbour]``."""
        prints = self._prints(csi)
        if self.metric == "cosine":
            far = 1 - prints @ self.prints.mT
        else:
            far = torch.cdist(prints, self.prints, p=1.0 if self.metric == "l1" else 2.0)
        near, index = far.topk(min(self.neighbours, far.shape[1]), largest=False)
        weight = 1 / (near.clamp_min(0) + 1e-6)
        return (weight / weight.sum(1, keepdim=True)).double(), index

    def locate(self, csi: SiteCSI) -> PositionEstimate:
        """Where users are."""
        weight, index = self.neighbours_of(csi)
        place = self.place[index]
        mean = (weight[..., None] * place).sum(1)
        miss = place - mean[:, None]
        covariance = torch.einsum("un,uni,unj->uij", weight, miss, miss)
        return PositionEstimate(mean, covariance + self.floor * torch.eye(2, dtype=torch.float64))

    def _prints(self, csi: SiteCSI) -> Tensor:
        power = fingerprint(csi)
        x = ((1 + power).log10() if self.scale == "log" else power.sqrt()).flatten(1)
        return torch.nn.functional.normalize(x, dim=1) if self.metric == "cosine" else x
