"""Arguments of the benchmark of radio maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, finite
from airlam.recipes import check_keys

CLASSICS = {
    "mean": "mean of measured places",
    "nearest": "nearest measured place",
    "inverse-distance": "inverse distance",
    "kriging": "kriging",
    "kriging:distance": "kriging, drift of distance",
    "kriging:heights": "kriging, drift of the height map",
    "kriging:cities": "kriging, drift learned in other cities",
}
NETWORKS = {"network": "airlam-map", "network:no-heights": "airlam-map, not told of heights"}
REFERENCES = {
    "no-map": "no map, threshold",
    "no-position": "mean profile of the station",
    "truth": "true profile",
}
LABELS = CLASSICS | NETWORKS | REFERENCES


@dataclass(frozen=True)
class RadioMapConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.RadioMapBenchmark`.

    Attributes:
        model: checkpoint of an :class:`~airlam.models.radio_map.AirlamMap`, or what ``airlam export`` made of
            one; null: classics alone.
        places: label -> ``city``, one of Sionna RT's, or ``channel``, a recipe with stations (and ``overrides`` of its
            keys), whose every seed is another site; ``count``, how many regions or sites; ``first``, the seed of the
            first.
        users: of each. stations: of each region of a city.
        shares: of the users whose CSI was measured, with their positions. headline_share: one of them.
        csi_snr_db: SNR of a tone and port at the strongest station of the median user; noise is alike everywhere.
        pilot_snr_db: of the pilot from which a user that enters is estimated.
        seed: of noise and draws.
        threads: CPU threads.
        quick: a small version, for tests.
        title: of the report.
    """

    model: str | None = "airlam-map"
    places: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"inf_dh_site": {"channel": "inf_dh_site", "count": 4}}
    )
    users: int = 512
    stations: int = 8
    shares: Sequence[float] = (0.05, 0.15, 0.3)
    headline_share: float = 0.05
    csi_snr_db: float = 40.0
    pilot_snr_db: float = 0.0
    seed: int = 5
    threads: int = 1
    quick: bool = False
    title: str = "Radio maps"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        at_least("users", self.users, 16)
        at_least("stations", self.stations, 1)
        finite("csi_snr_db", [self.csi_snr_db])
        finite("pilot_snr_db", [self.pilot_snr_db])
        if not self.places:
            raise RecipeError("places is empty: name at least one, like {munich: {city: munich, count: 8}}")
        for label, place in self.places.items():
            if not isinstance(place, dict) or ("city" in place) == ("channel" in place):
                raise RecipeError(f"places.{label} is {place!r}, but must name a city or a channel: city: munich")
            known = ("city",) if "city" in place else ("channel", "overrides")
            check_keys(f"places.{label}", place, (*known, "count", "first"))
            at_least(f"places.{label}.count", place.get("count", 1), 1)
            at_least(f"places.{label}.first", place.get("first", 0), 0)
        if self.quick:
            first = next(iter(self.places))
            self._set(
                places={first: {**self.places[first], "count": 2}},
                users=64,
                shares=[0.5],
                headline_share=0.5,
                stations=2,
            )
        if self.headline_share not in self.shares:
            raise RecipeError(
                f"headline_share is {self.headline_share:g}, but must be one of shares {list(self.shares)}"
            )
        for share in self.shares:
            if not 0 < share < 1 or self.count(share) < 8:
                raise RecipeError(
                    f"shares holds {share:g}: {self.count(share)} of {self.users} users, but at least 8, and not "
                    "all, are needed"
                )

    def count(self, share: float) -> int:
        """Measured users of a share."""
        return round(share * self.users)
