"""Settings of a classic method, chosen on validation users."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from airlam.baselines.positioning.radio_map import RadioMap
from airlam.baselines.positioning.site import PositionEstimate, calibration
from airlam.csi import SiteCSI


class Tuned(NamedTuple):
    """A fitted method, its settings, and the factor that calibrates its covariance."""

    method: Any
    settings: dict[str, Any]
    factor: float

    def locate(self, csi: SiteCSI) -> PositionEstimate:
        """Where users are, with calibrated ellipses."""
        return self.method.locate(csi).scaled(self.factor)


def tuned(kind: type, labelled: SiteCSI, validation: SiteCSI) -> Tuned:
    """The setting of ``kind.GRID`` with the lowest 90 % error of validation users, calibrated on them.

    Args:
        kind: a class with ``GRID``, ``fit`` and ``locate``.
        labelled: users with positions that it learns from. validation: others.
    """
    truth, best = validation.known()[:, :2], None
    made: Any = kind().fit(labelled) if kind is RadioMap else None
    evidence = made.evidence(validation) if made is not None else None
    for settings in kind.GRID:  # type: ignore[attr-defined]
        if evidence is not None:  # maps do not depend on the settings
            made.temper, made.prints = settings["temper"], settings["prints"]
            method, estimate = made, made.of_evidence(*evidence)
        else:
            method = kind(**settings).fit(labelled)
            estimate = method.locate(validation)
        error = float(torch.quantile((estimate.mean - truth).norm(dim=1), 0.9))
        if best is None or error < best[0]:
            best = (error, settings, method, calibration(estimate, truth))
    assert best is not None
    if evidence is not None:
        made.temper, made.prints = best[1]["temper"], best[1]["prints"]
    return Tuned(best[2], dict(best[1]), best[3])
