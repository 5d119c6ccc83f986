"""Names of the cells of a report: scenario, speed and CSI SNR; where these are equal, what else tells cells apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airlam.evaluation.report.style import title
from airlam.evaluation.rows import Row

Key = tuple[str, float | None, float | None, str, int, int, str]
PLACE, END = 3, 7  # scenario, speed, CSI SNR; then label, slots seen and predicted, hash of the recipe


def key_of(row: Row) -> Key:
    """What is the same for all rows of one cell."""
    return row.data, row.speed_kmh, row.csi_snr_db, row.label, row.history, row.horizon, row.data_hash


class CellNames:
    """What tells the cells of some rows apart.

    Args:
        rows: of a table or a figure.

    Example:
        >>> rows = [Row("ar", "umi_los", "", 30.0, 20.0, history=slots) for slots in (8, 16)]
        >>> [CellNames(rows).name(row) for row in rows]
        ['UMi LOS, 30 km/h, 20 dB, 8 slots seen', 'UMi LOS, 30 km/h, 20 dB, 16 slots seen']
        >>> CellNames(rows[:1]).name(rows[0])
        'UMi LOS, 30 km/h, 20 dB'
    """

    def __init__(self, rows: Iterable[Row]):
        self._keys: list[Key] = list(dict.fromkeys(key_of(row) for row in rows))
        self._shown: list[int] = []  # places in a key, beyond scenario, speed and SNR
        for place in range(PLACE, END):
            if self._told([*self._shown, place]) > self._told(self._shown):
                self._shown.append(place)

    def _told(self, shown: Sequence[int]) -> int:
        """How many cells these places of the keys tell apart."""
        return len({(*key[:PLACE], *(key[place] for place in shown)) for key in self._keys})

    def variant(self, row: Row) -> str:
        """What tells the row's cell from others of the same scenario, speed and SNR; empty where there are none."""
        key = key_of(row)
        alike = dict.fromkeys(other[-1] for other in self._keys if other[:-1] == key[:-1])
        number = list(alike).index(key[-1]) + 1 if key[-1] in alike else 0
        texts = (row.label, f"{row.history} slots seen", f"{row.horizon} slots predicted", f"recipe {number}")
        return ", ".join(texts[place - PLACE] for place in self._shown if texts[place - PLACE])

    def name(self, row: Row, *, speed: bool = True, snr: bool = True) -> str:
        """The cell in words; without its speed or SNR where that is an axis."""
        parts = [title(row.data)]
        parts += [f"{row.speed_kmh:g} km/h"] if speed and row.speed_kmh is not None else []
        parts += [f"{row.csi_snr_db:g} dB"] if snr and row.csi_snr_db is not None else []
        return ", ".join([*parts, *([variant] if (variant := self.variant(row)) else [])])

    def panels(self, rows: Iterable[Row], *, speed: bool = True, snr: bool = True) -> dict[str, list[Row]]:
        """Rows by the name of their cell: a panel of a figure for each."""
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(self.name(row, speed=speed, snr=snr), []).append(row)
        return found
