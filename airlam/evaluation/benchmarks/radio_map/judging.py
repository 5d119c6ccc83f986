"""How good a map is at places where nothing was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.radio_maps import MapEstimate
from airlam.baselines.radio_maps.estimate import SPREAD_90
from airlam.csi import SiteMap
from airlam.csi.site_map import FLOOR_DB
from airlam.evaluation.benchmarks.radio_map.first_estimates import FirstEstimates

METRICS = {
    "rmse": "dB",  # of the power
    "inside": "1",  # share of places within the stated 90 % interval
    "similarity": "1",  # cosine similarity of delay-angle power profiles, where the station is heard
    "distance": "dB",  # energy distance between the distributions of drawn and true powers
    "first_nmse": "dB",  # of the first estimate of a user that enters
}


def judge(found: MapEstimate, truth: SiteMap, start: FirstEstimates, seed: int) -> dict[str, list[float]]:
    """Every metric at every station, means over places.

    Args:
        found, truth: of the same places and stations.
        start: of the users at these places.
        seed: of draws.
    """
    generator = torch.Generator().manual_seed(seed)
    miss, heard = found.power_db - truth.power_db, truth.power_db > FLOOR_DB
    drawn = found.power_db + found.spread_db * torch.randn(miss.shape, generator=generator)
    alike = torch.nn.functional.cosine_similarity(found.profile.flatten(-2), truth.profile.flatten(-2), dim=-1)
    stations = range(miss.shape[1])
    return {
        "rmse": miss.square().mean(0).sqrt().tolist(),
        "inside": (miss.abs() < SPREAD_90 * found.spread_db).float().mean(0).tolist(),
        "similarity": [float(alike[heard[:, s], s].mean()) for s in stations],
        "distance": [energy_distance(drawn[:, s].clamp_min(FLOOR_DB), truth.power_db[:, s]) for s in stations],
        "first_nmse": start.nmse(found.profile),
    }


def energy_distance(a: Tensor, b: Tensor) -> float:
    r"""Of two samples: :math:`\sqrt{2E|A-B| - E|A-A'| - E|B-B'|}` (Szekely and Rizzo, 2013).

    Example:
        >>> energy_distance(torch.zeros(5), torch.ones(4))
        1.4142135623730951
    """
    within = sum(float((x[:, None] - x).abs().mean()) for x in (a, b))
    return max(2 * float((a[:, None] - b).abs().mean()) - within, 0.0) ** 0.5
