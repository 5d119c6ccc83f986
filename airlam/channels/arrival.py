"""Absolute time of arrival, TR 38.901 clause 7.6.9: how much later a first path comes than light would."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.constants import SPEED_OF_LIGHT
from airlam.errors import RecipeError
from airlam.recipes import check_switch

# Table 7.6.9-1, V19: mean and standard deviation of log10(excess delay / 1 s) without a line of sight, and the
# horizontal correlation distance [m].
EXCESS = {
    "umi": (-7.5, 0.5, 15.0),
    "uma": (-7.4, 0.2, 50.0),
    "rma": (-8.33, 0.26, 50.0),
    "inh": (-8.6, 0.1, 10.0),
    "inf-sl": (-7.5, 0.4, 6.0),
    "inf-dl": (-7.5, 0.4, 6.0),
    "inf-sh": (-7.5, 0.4, 11.0),
    "inf-dh": (-7.5, 0.4, 11.0),
}


def check_absolute_delay(recipe: dict) -> None:
    """Checks the key ``absolute_delay`` of a resolved recipe, and takes it out where it is false.

    Raises:
        RecipeError: no switch, or together with what it does not hold for.
    """
    if not check_switch("absolute_delay", recipe["absolute_delay"]):
        del recipe["absolute_delay"]  # hashes of recipes older than the key stay as they are
    elif recipe["fast"] == "stock":
        raise RecipeError("fast is 'stock', but absolute_delay needs airlam's evaluation of rays; leave the key out")
    elif recipe.get("tracks"):
        raise RecipeError("tracks is true, but absolute_delay holds for one point a user; leave one of them out")


def excess_delay(kind: str, position: Tensor, num_stations: int, generator: torch.Generator) -> Tensor:
    """Excess delays of links without a line of sight [s], log-normal, alike for neighbours of one drop.

    Args:
        kind: a scenario: ``"umi"``, ``"inf-dh"``; InF-HH has line of sight only and gets zeros.
        position: ``[drop, user, 3]`` m. Users at one place, at any height, have one excess delay.
        num_stations: base stations, each with a field of its own.
        generator: of the random numbers.

    Returns:
        ``[drop, user, station]``.

    Example:
        >>> place = torch.tensor([[[0.0, 0.0, 1.5], [0.0, 0.0, 1.5], [500.0, 0.0, 1.5]]])
        >>> tau = excess_delay("uma", place, 1, torch.Generator().manual_seed(0))[0, :, 0]
        >>> bool((tau[0] / tau[1] - 1).abs() < 1e-3), bool((tau[0] / tau[2] - 1).abs() < 1e-3)
        (True, False)
    """
    drops, users = position.shape[:2]
    normal = torch.randn(drops, users, num_stations, generator=generator, dtype=torch.float64)
    if kind not in EXCESS:
        return torch.zeros(drops, users, num_stations)
    mean, deviation, correlation = EXCESS[kind]
    place = position[..., :2].double()
    covariance = torch.exp(-torch.cdist(place, place) / correlation)
    covariance += 1e-8 * torch.eye(users, dtype=torch.float64)  # users at one place make it singular
    return (10.0 ** (mean + deviation * (torch.linalg.cholesky(covariance) @ normal))).float()


def arrival_delay(distance: Tensor, los: Tensor, excess: Tensor, longest: float | None) -> Tensor:
    """What is added to all delays of a link whose first path has delay zero [s] (7.6-43, 7.6-44).

    Args:
        distance: ``[link]`` m, between the ends in space. los: ``bool [link]``. excess: ``[link]`` s.
        longest: largest dimension of the hall [m]; an excess is at most twice the time light takes over it.
    """
    if longest is not None:
        excess = excess.clamp(max=2 * longest / SPEED_OF_LIGHT)
    return distance / SPEED_OF_LIGHT + torch.where(los, torch.zeros_like(excess), excess)
