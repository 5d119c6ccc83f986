"""Arguments that benchmarks share, as frozen dataclasses: each checks its own values, recipes give them as mappings.

A benchmark's own arguments and these stand in ``benchmarks/<name>/config.py``; a recipe says what differs::

    init_args:
      cells: {scenarios: [uma_nlos], speeds_kmh: [3, 30]}
      sizes: {num_links: 96}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from airlam.errors import RecipeError
from airlam.methods import describe
from airlam.recipes import argument_defaults, make_section, section_types

LARGEST = 1_000_000  # of any count in a benchmark: far above what a run can hold


def at_least(name: str, value: int, low: int) -> None:
    """Raises RecipeError if ``value`` is no whole number of at least ``low``, or above :data:`LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise RecipeError(f"{name} is {value!r}, but must be a whole number of at least {low}")
    if value > LARGEST:
        raise RecipeError(f"{name} is {value}, but must be at most {LARGEST:,}")


def not_empty(name: str, values: Sequence[Any]) -> None:
    """Raises RecipeError if there is nothing in ``values``."""
    if not values:
        raise RecipeError(f"{name} must not be empty")


def finite(name: str, values: Sequence[float]) -> None:
    """Raises RecipeError if one of ``values`` is infinite or NaN."""
    for value in values:
        if not math.isfinite(value):
            raise RecipeError(f"{name} holds {value}, but must be finite numbers")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a benchmark: those that are dataclasses may be given as mappings of what differs."""

    def __post_init__(self) -> None:
        usual = argument_defaults(type(self))
        for name, kind in section_types(type(self)).items():
            value = getattr(self, name)
            if value is not None or usual.get(name) is not None:
                self._set(**{name: make_section(kind, value, usual.get(name), name)})

    def _set(self, **values: Any) -> None:
        """Replaces arguments while the object is made: by what they stand for, or for a quick run."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def plain(self) -> dict[str, Any]:
        """All arguments as plain data, for ``results.json``: classes and objects by their names."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        sections = section_types(type(self))
        return {name: describe(asdict(value) if name in sections else value) for name, value in values.items()}


@dataclass(frozen=True)
class Cells:
    """The headline cells: every scenario at every speed.

    Attributes:
        scenarios: names of channel recipes.
        speeds_kmh: speed of all users of a cell [km/h].
        csi_snr_db: SNR of the measured history [dB].
        channel_overrides: keys that replace those of every channel recipe (smaller panels for a quick look).
    """

    scenarios: Sequence[str] = ("uma_nlos", "umi_nlos")
    speeds_kmh: Sequence[float] = (3.0, 30.0, 60.0, 100.0)
    csi_snr_db: float = 20.0
    channel_overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        not_empty("cells.scenarios", self.scenarios)
        not_empty("cells.speeds_kmh", self.speeds_kmh)
        object.__setattr__(self, "scenarios", [str(name) for name in self.scenarios])
        object.__setattr__(self, "speeds_kmh", [float(speed) for speed in self.speeds_kmh])
        object.__setattr__(self, "csi_snr_db", float(self.csi_snr_db))
        finite("cells.speeds_kmh", self.speeds_kmh)
        finite("cells.csi_snr_db", [self.csi_snr_db])


@dataclass(frozen=True)
class Links:
    """Slots and links of a cell. A drop is a base station with its users; no drop is ever split.

    Attributes:
        history: slots that a method sees.
        horizon: slots that it predicts.
        num_links: links of a headline cell; intervals resample their drops.
        num_tune: links, of other drops, that the classical methods are tuned on.
        links_per_drop: users that share a base station and a drop; a multiple of every group size.
    """

    WHOLE: ClassVar[tuple[str, ...]] = ("num_links", "num_tune")  # multiples of links_per_drop

    history: int = 16
    horizon: int = 4
    num_links: int = 192
    num_tune: int = 64
    links_per_drop: int = 8

    def __post_init__(self) -> None:
        at_least("sizes.history", self.history, 1)
        at_least("sizes.horizon", self.horizon, 1)
        at_least("sizes.links_per_drop", self.links_per_drop, 1)
        for name in self.WHOLE:
            self.whole_drops(name, getattr(self, name))

    def whole_drops(self, name: str, value: int, section: str = "sizes") -> None:
        """Raises RecipeError if ``value`` links are not a positive number of whole drops, or above :data:`LARGEST`."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % self.links_per_drop:
            raise RecipeError(
                f"{section}.{name} is {value!r}, but must be a positive multiple of sizes.links_per_drop "
                f"({self.links_per_drop}): no drop is ever split"
            )
        at_least(f"{section}.{name}", value, 1)


@dataclass(frozen=True)
class Sizes(Links):
    """Slots and links, where there are cells beside the headline.

    Attributes:
        side_links: links of each cell beside the headline, and the most links that tune there.
    """

    WHOLE: ClassVar[tuple[str, ...]] = (*Links.WHOLE, "side_links")

    side_links: int = 64


@dataclass(frozen=True)
class Rates:
    """Spectral efficiency of users that are served together.

    Attributes:
        users: sizes of the groups served together.
        transmit_snr_db: of the sum-SE curves [dB]; ``headline_snr_db`` is added if it is missing.
        headline_snr_db: the SNR of tables [dB].
        tone_step: spectral efficiency uses every n-th subcarrier.
    """

    users: Sequence[int] = (4, 8)
    transmit_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0)
    headline_snr_db: float = 20.0
    tone_step: int = 4

    def __post_init__(self) -> None:
        at_least("rates.tone_step", self.tone_step, 1)
        object.__setattr__(self, "users", tuple(sorted(int(users) for users in self.users)))
        object.__setattr__(self, "headline_snr_db", float(self.headline_snr_db))
        snrs = {float(snr) for snr in (*self.transmit_snr_db, self.headline_snr_db)}
        object.__setattr__(self, "transmit_snr_db", tuple(sorted(snrs)))

    def fit(self, links_per_drop: int) -> None:
        """Raises RecipeError if a group does not fit into a drop a whole number of times."""
        for users in self.users:
            if users < 1 or links_per_drop % users:
                raise RecipeError(
                    f"groups of {users} users do not fit drops of {links_per_drop} links; make sizes.links_per_drop a "
                    "multiple of every group size"
                )


@dataclass(frozen=True)
class Sweep:
    """Further cells beside the headline, with fewer links: every scenario and speed at every CSI SNR.

    Attributes:
        csi_snr_db: SNRs of the measured history [dB]; empty: no sweep.
        speeds_kmh: speeds [km/h].
        scenarios: ``None``: the first one of the headline.
    """

    csi_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0)
    speeds_kmh: Sequence[float] = (30.0,)
    scenarios: Sequence[str] | None = None


@dataclass(frozen=True)
class MixedCells:
    """Cells whose users draw their speed from a range: every scenario at every CSI SNR.

    Attributes:
        scenarios: names of channel recipes.
        speed_kmh: least and largest speed of a user [km/h].
        csi_snr_db: SNRs of the measured CSI [dB].
        slots: slots that are measured.
    """

    scenarios: Sequence[str] = ("uma_nlos", "umi_nlos", "uma_los", "umi_los")
    speed_kmh: Sequence[float] = (3.0, 100.0)
    csi_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0)
    slots: int = 16

    def __post_init__(self) -> None:
        not_empty("cells.scenarios", self.scenarios)
        not_empty("cells.csi_snr_db", self.csi_snr_db)
        at_least("cells.slots", self.slots, 1)
        object.__setattr__(self, "scenarios", [str(name) for name in self.scenarios])
        for name in ("speed_kmh", "csi_snr_db"):
            object.__setattr__(self, name, [float(value) for value in getattr(self, name)])
            finite(f"cells.{name}", getattr(self, name))


def shares(name: str, values: Sequence[float]) -> list[float]:
    """``values`` as floats; raises RecipeError if one of them is no share of the training links, in (0, 1]."""
    if not all(0 < value <= 1 for value in values):
        raise RecipeError(f"{name} are shares of the training links in (0, 1], got {list(values)}")
    return [float(value) for value in values]
