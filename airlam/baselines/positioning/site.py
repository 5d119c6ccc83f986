"""What positioning starts from: the CSI of a site's users at its stations; and what it gives: a mean and an ellipse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from airlam.csi import PortShape

INSIDE_90 = 4.605170185988092  # 90 % point of chi-square with two degrees of freedom: -2 log(0.1)


@dataclass
class SiteCSI:
    """Measured CSI of users at the stations of one site.

    Attributes:
        h: ``complex64 [user, station, subcarrier, tx_ant]`` in units of the noise's standard deviation.
        stations: ``[station, 4]``: x, y, z [m], bearing [degrees].
        subcarrier_spacing: Hz. port_shape: (polarisations, columns, rows) of a station.
        position: ``[user, 3]`` m, or None where it is not known.
        los: ``bool [user, station]``, for tables alone; None: not known.

    Raises:
        TypeError, ValueError: other shapes, NaN or infinite values.

    Example:
        >>> h = torch.randn(5, 3, 64, 8, dtype=torch.complex64)
        >>> len(SiteCSI(h, torch.zeros(3, 4), 1e6, (2, 4, 1)))
        5
    """

    h: Tensor
    stations: Tensor
    subcarrier_spacing: float
    port_shape: PortShape
    position: Tensor | None = None
    los: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.h.is_complex():
            raise TypeError(f"h must be complex, got {self.h.dtype}")
        if self.h.dim() != 4:
            raise ValueError(f"h must be [user, station, subcarrier, tx_ant], got shape {list(self.h.shape)}")
        if self.stations.shape != (self.h.shape[1], 4):
            raise ValueError(
                f"stations must be [{self.h.shape[1]}, 4] (x, y, z, bearing), one for each station of h, got "
                f"{list(self.stations.shape)}"
            )
        for name in ("h", "position"):
            value = getattr(self, name)
            if value is not None and not bool(
                torch.isfinite(torch.view_as_real(value) if name == "h" else value).all()
            ):
                raise ValueError(f"{name} holds NaN or infinite values; leave such users out")
        if self.position is not None and self.position.shape != (len(self), 3):
            raise ValueError(f"position must be [{len(self)}, 3], got {list(self.position.shape)}")

    def __len__(self) -> int:
        return self.h.shape[0]

    def __getitem__(self, users) -> SiteCSI:
        """Some of the users (slice, list or tensor)."""
        some: dict[str, Any] = {
            name: None if (x := getattr(self, name)) is None else x[users] for name in ("h", "position", "los")
        }
        return replace(self, **some)

    def known(self) -> Tensor:
        """Positions ``float64 [user, 3]``.

        Raises:
            ValueError: there are none.
        """
        if self.position is None:
            raise ValueError(
                "this site has no positions, and a method that learns needs some: use a recipe with places"
            )
        return self.position.double()


@dataclass
class PositionEstimate:
    """Where users are: ``mean [user, 2]`` m and ``covariance [user, 2, 2]`` m^2."""

    mean: Tensor
    covariance: Tensor

    def distance(self, position: Tensor) -> Tensor:
        """Squared Mahalanobis distance of the true positions ``[user, 2 or 3]``; below ``INSIDE_90`` is inside the
        90 % ellipse."""
        miss = (position[:, :2].double() - self.mean)[..., None]
        return (miss.mT @ torch.linalg.solve(self.covariance, miss))[:, 0, 0]

    def scaled(self, factor: float) -> PositionEstimate:
        """Ellipses of ``factor`` times the area."""
        return PositionEstimate(self.mean, factor * self.covariance)


def calibration(estimate: PositionEstimate, position: Tensor) -> float:
    """The factor of the covariance with which the 90 % ellipses hold 90 % of these users.

    Example:
        >>> exact = PositionEstimate(torch.zeros(999, 2).double(), torch.eye(2).double().expand(999, 2, 2))
        >>> abs(calibration(exact, torch.randn(999, 2, generator=torch.Generator().manual_seed(0))) - 1) < 0.15
        True
    """
    distance = estimate.distance(position).sort().values
    rank = min(len(distance) - 1, int(0.9 * (len(distance) + 1)))  # of a split conformal set
    return max(float(distance[rank]) / INSIDE_90, 1e-6)


def lengths(stations: Tensor, place: Tensor, height: float) -> Tensor:
    """Distances ``float64 [place, station]`` m from places on the ground ``[place, 2]`` at a height of the users."""
    return (
        (place[:, None].double() - stations[:, :2].double())
        .square()
        .sum(-1)
        .add((height - stations[:, 2].double()).square())
        .sqrt()
    )
