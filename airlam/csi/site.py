"""The CSI of users at the stations of one site: what positioning starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from airlam.csi.axes import PortShape, check_port_shape
from airlam.csi.beam_delay import to_beam_delay
from airlam.csi.lazy import resolved


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
        for name in ("h", "stations", "position"):
            if (value := getattr(self, name)) is None:
                continue
            setattr(self, name, resolved(value, name))
            if not bool(torch.isfinite(value).all()):
                fix = "survey them again" if name == "stations" else "leave such users out"
                raise ValueError(f"{name} holds NaN or infinite values; {fix}")
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

    def of_stations(self, stations: Tensor) -> SiteCSI:
        """Some of the stations, by their numbers."""
        los = None if self.los is None else self.los[:, stations]
        return replace(self, h=self.h[:, stations], stations=self.stations[stations], los=los)

    def delay_beam_power(self) -> Tensor:
        """Power of each delay and beam over the noise, polarisations together ``[user, station, delay, beam]``."""
        polarisations = check_port_shape(self.h.shape[-1], self.port_shape)[0]
        x = to_beam_delay(self.h[..., None, :], self.port_shape).squeeze(-2).abs().square()
        return x.unflatten(-1, (polarisations, -1)).mean(-2)

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
