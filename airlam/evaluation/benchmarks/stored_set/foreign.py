"""What a user says about a foreign data set that a benchmark is to judge on: the options of ``airlam import``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from airlam.data.importers.sets import Description, import_set
from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments

FOLDER = "imported"  # in the folder of results
UNITS = ("slot_s", "carrier_hz", "subcarrier_spacing_hz", "conjugate")
LISTS = {"port_shape": int, "split": float}


@dataclass(frozen=True, kw_only=True)  # after a benchmark's own arguments
class ForeignFile(Arguments):
    """The options of ``airlam import``, under the same names; ``null``: not given.

    Attributes:
        layout: of a foreign data set; ``auto``: as it looks. slot_s: seconds from slot to slot. carrier_hz: carrier
            frequency. subcarrier_spacing_hz: of the file. port_shape: polarisations,columns,rows. conjugate: the file's
            phases turn the other way. split: shares of training, validation and test links.
        axes: of layout numpy, as link,slot,subcarrier,tx_ant. variable: the array, where there are several.
            every: matlab-5g: one slot from each N symbols. slots: of a link. subcarriers: of layouts of paths.
            tx_set, rx_set, azimuth_deg: deepmimo. tx: deepmimo, channels4world. elements: quadriga. order: wimae.
            scenes: channels4world. link, future: llm4cp. speed_kmh: llm4cp, layouts of paths.
    """

    layout: str = "auto"
    slot_s: float | None = None
    carrier_hz: float | None = None
    subcarrier_spacing_hz: float | None = None
    port_shape: Any = None
    conjugate: bool = False
    split: Any = "0,0,1"
    axes: str | None = None
    variable: str | None = None
    every: Any = None
    slots: Any = None
    subcarriers: Any = None
    tx_set: Any = None
    tx: Any = None
    rx_set: Any = None
    azimuth_deg: Any = None
    elements: str | None = None
    order: str | None = None
    scenes: str | None = None
    link: str | None = None
    future: str | None = None
    speed_kmh: Any = None

    def said(self) -> list[str]:
        """Names of the options that were given."""
        return [each.name for each in fields(ForeignFile) if getattr(self, each.name) != each.default]

    def import_to(self, path: Path, folder: Path, seed: int) -> tuple[Path, tuple[str, ...]]:
        """The store of a foreign data set, and notes; one that is there is kept if nothing that it came from changed.

        Raises:
            StoreError, RecipeError: as :func:`airlam.data.importers.sets.import_set`.
        """
        store = folder / FOLDER / f"{path.name.removesuffix(path.suffix) or path.name}.h5"
        told: dict[str, Any] = {name: getattr(self, name) for name in UNITS}
        told |= {name: _numbers(name, getattr(self, name), kind) for name, kind in LISTS.items()}
        own = [each.name for each in fields(ForeignFile) if each.name not in ("layout", *UNITS, *LISTS)]
        options = {name: str(getattr(self, name)) for name in own if getattr(self, name) is not None}
        notes = import_set(
            path,
            store,
            layout=self.layout,
            description=Description(**told, seed=seed),
            options=options,
            reuse=True,
        )
        return store, notes


def _numbers(name: str, value: Any, kind: type) -> list[Any] | None:
    """``"1,4,8"`` or ``[1, 4, 8]`` as a list."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    try:
        return [kind(part) for part in parts]
    except (TypeError, ValueError):
        raise RecipeError(f"{name} is {value!r}, but must be numbers separated by commas") from None
