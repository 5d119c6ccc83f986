"""What a benchmark measured, value by value: the record of a cell, its file, and one tidy table of any number of cells.

A benchmark measures *series*: one metric of one method in one cell, with one value (or one curve) for each link, each
group of users, or the cell as a whole. :class:`CellRecord` holds the series of a cell; it is kept in one JSON file with
the version of its schema. Rows of reports are computed from records (``engine/summarise.py``). For analyses of your
own, :func:`measurements` reads the finished cells of an output folder as a pandas table, and :func:`summarise` turns
rows of that table into estimates with 95 % intervals. Nothing is ever found by taking a name apart: what a figure
depends on is a column.

Columns of the table (:data:`COLUMNS`): ``group`` (the table of the report), ``cell``, ``data``, ``speed_kmh``,
``csi_snr_db``, ``label`` (an impairment, a variant of the cell), ``method``, ``metric``, ``unit``, ``per`` ("link",
"group of 4", "cell", ...), ``item`` (number of the link or group), ``drop`` (that it belongs to, -1 for the cell as a
whole), ``axis`` and ``at`` (where on a curve: transmit SNR, horizon, user of the group; NaN where there is none),
``value``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from airlam.errors import StoreError
from airlam.io import read_json
from airlam.metrics.intervals import LEVEL, bootstrap, group_sums

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "airlam-cell/3"
CELLS = "cells"  # the folder of finished cells in the folder of a benchmark
LINK, CELL = "link", "cell"
SE = "bit/s/Hz"  # the unit of spectral efficiencies
COLUMNS = (
    *("group", "cell", "data", "speed_kmh", "csi_snr_db", "label", "method"),
    *("metric", "unit", "per", "item", "drop", "axis", "at", "value"),
)


def group_of(users: int) -> str:
    """The name of groups of ``users`` that are served together, as :attr:`Series.per` has it.

    Example:
        >>> group_of(4)
        'group of 4'
    """
    return f"group of {users}"


@dataclass(eq=False)
class Series:
    """Values of one metric of one method in one cell.

    Attributes:
        method: the method's name in tables.
        metric: what was measured: "nmse", "sum_se", "user_rate", "latency_p50_ms", ...
        unit: "1" for a bare ratio, "bit/s/Hz", "ms", ...
        values: finite numbers, one for each item of ``per``: ``[item]``, or ``[item, point]`` along ``axis``.
        per: what an item is: "link", :func:`group_of` users, "cell", or another key of :attr:`CellRecord.drops`.
        axis: the points of a curve (transmit SNR [dB], horizon [ms], number of the user), ``axis_name`` with its unit.

    Raises:
        ValueError: a value that is not finite, none at all, or a shape that does not suit the axis.
    """

    method: str
    metric: str
    unit: str
    values: Tensor
    per: str = LINK
    axis: list[float] | None = None
    axis_name: str = ""

    def __post_init__(self) -> None:
        self.values = torch.as_tensor(self.values, dtype=torch.float64).detach().cpu()
        what, shape = f"{self.metric} of {self.method}", tuple(self.values.shape)
        if not self.values.numel():
            raise ValueError(f"{what} has no values; leave the series out")
        if len(shape) != (1 if self.axis is None else 2) or (self.axis is not None and shape[1] != len(self.axis)):
            points = "no axis" if self.axis is None else f"an axis of {len(self.axis)} points"
            raise ValueError(f"{what} has values {shape} with {points}; give [item], or [item, point] with an axis")
        if not bool(torch.isfinite(self.values).all()):
            raise ValueError(f"{what} holds NaN or infinity; leave the series out if it is unknown")


@dataclass
class MethodFacts:
    """What is known of a method in a cell besides its values.

    Attributes:
        settings: what tuning chose.
        parameters_total, parameters_trained: of a network.
        seconds: spent on it.
        depends: fingerprint of all that its figures depend on besides the cell; empty where that is not kept.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    parameters_total: int = 0
    parameters_trained: int = 0
    seconds: float = 0.0
    depends: str = ""


class CellRecord:
    """All that was measured in one cell.

    Args:
        cell: plain data that says what the cell is: at least ``group``, ``data``, ``speed_kmh``, ``csi_snr_db``.
        drops: what an item is -> the drop of each item; at least "link".

    Attributes:
        methods: what is known of each method, in the order of the tables.
        extras: anything else, plain data (seconds spent, a picture).
        file: name of its file among the finished cells; empty where it is not kept.

    Example:
        >>> cell = {"group": "cell", "data": "uma_nlos", "speed_kmh": 3.0, "csi_snr_db": 20.0}
        >>> record = CellRecord(cell, {"link": [0, 0, 1]})
        >>> record.add(Series("ar", "nmse", "1", [0.1, 0.2, 0.3]))
        >>> round(record.values("ar", "nmse").mean().item(), 3)
        0.2
    """

    def __init__(self, cell: dict[str, Any], drops: dict[str, list[int]]):
        self.cell, self.drops = cell, drops
        self.methods: dict[str, MethodFacts] = {}
        self.extras: dict[str, Any] = {}
        self.file = ""
        self._series: dict[tuple[str, str, str], Series] = {}

    def add(self, *series: Series) -> None:
        """Add series.

        Raises:
            ValueError: one has not one value for each item of its kind, or was measured already.
        """
        for each in series:
            count = 1 if each.per == CELL else len(self.drops.get(each.per, ()))
            key, what = (each.method, each.metric, each.per), f"{each.metric} of {each.method}"
            if len(each.values) != count:
                raise ValueError(f"{what} has {len(each.values)} values for {count} of '{each.per}'; give one for each")
            if key in self._series:
                raise ValueError(f"{what} was measured twice in one cell")
            self._series[key] = each

    @property
    def series(self) -> list[Series]:
        """What was measured."""
        return list(self._series.values())

    def find(self, method: str, metric: str, per: str = LINK) -> Series | None:
        """The series of a method, or ``None`` where it was not measured."""
        return self._series.get((method, metric, per))

    def values(self, method: str, metric: str, per: str = LINK) -> Tensor:
        """Values ``[item]`` or ``[item, point]``, float64.

        Raises:
            KeyError: they were not measured.
        """
        found = self.find(method, metric, per)
        if found is None:
            raise KeyError(f"{metric} of {method} was not measured for each {per}")
        return found.values

    def number(self, method: str, metric: str) -> float | None:
        """A figure of the whole cell (a latency), or ``None`` where it was not measured."""
        found = self.find(method, metric, CELL)
        return None if found is None else float(found.values[0])

    def drop(self, per: str = LINK) -> Tensor:
        """The drop of each item, int ``[item]``; -1 for the cell as a whole."""
        return torch.tensor([-1] if per == CELL else self.drops[per])

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON, with the version of its schema."""
        return {
            "schema": SCHEMA,
            "cell": self.cell,
            "drops": self.drops,
            "methods": {name: vars(facts) for name, facts in self.methods.items()},
            "series": [{**vars(each), "values": each.values.tolist()} for each in self.series],
            "extras": self.extras,
        }

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> CellRecord:
        """The inverse of :meth:`plain`.

        Raises:
            StoreError: the data are damaged, or of another schema.
        """
        try:
            if data.get("schema") != SCHEMA:
                raise StoreError(
                    f"the record has schema {data.get('schema')!r}, this version of airlam reads {SCHEMA!r}"
                )
            record = cls(data["cell"], data["drops"])
            record.methods = {name: MethodFacts(**facts) for name, facts in data["methods"].items()}
            record.extras = data["extras"]
            record.add(*(Series(**each) for each in data["series"]))
            return record
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"this is no record of a cell ({error})") from None


def file_names(records: Iterable[CellRecord]) -> list[str]:
    """The files of those records that are kept, for :attr:`airlam.evaluation.Results.cells`."""
    return [record.file for record in records if record.file]


def measurements(out: str | Path) -> pd.DataFrame:
    """The table of all values behind the report in a benchmark's output folder; see the module for its columns.

    Args:
        out: the folder that ``airlam evaluate --out`` wrote, with ``results.json`` and ``cells/``.

    Raises:
        StoreError: no results there, or a benchmark that keeps no cells.

    Example:
        >>> table = measurements("outputs/channel_prediction")  # doctest: +SKIP
        >>> summarise(table[table["metric"] == "nmse"], ["method"], mean_of_db, against="ar")  # doctest: +SKIP
    """
    out, path = Path(out), Path(out) / "results.json"
    if not path.is_file():
        raise StoreError(f"there is no {path}; give the folder that 'airlam evaluate --out' wrote")
    names = read_json(path).get("cells")
    if not names:
        raise StoreError(f"{path} names no finished cells: this benchmark keeps none, or none could be kept")
    return tidy(CellRecord.from_plain(read_json(out / CELLS / name)) for name in names)


def tidy(records: Iterable[CellRecord]) -> pd.DataFrame:
    """One row for each measured value; see the module's docstring for the columns.

    Example:
        >>> cell = {"group": "cell", "data": "uma_nlos", "speed_kmh": 3.0, "csi_snr_db": 20.0}
        >>> record = CellRecord(cell, {"link": [0, 0, 1]})
        >>> record.add(Series("ar", "nmse", "1", [0.1, 0.2, 0.3]))
        >>> print(*tidy([record])[["method", "metric", "drop", "value"]].iloc[-1])
        ar nmse 1 0.3
    """
    import pandas as pd

    parts = []
    for number, record in enumerate(records):
        cell = record.cell
        for series in record.series:
            items, points = len(series.values), 1 if series.axis is None else len(series.axis)
            columns = {
                "group": cell.get("group", ""),
                "cell": number,
                "data": cell.get("data", ""),
                "speed_kmh": _number(cell.get("speed_kmh")),
                "csi_snr_db": _number(cell.get("csi_snr_db")),
                "label": cell.get("label", ""),
                "method": series.method,
                "metric": series.metric,
                "unit": series.unit,
                "per": series.per,
                "item": torch.arange(items).repeat_interleave(points).numpy(),
                "drop": record.drop(series.per).repeat_interleave(points).numpy(),
                "axis": series.axis_name,
                "at": [math.nan] * items if series.axis is None else list(series.axis) * items,
                "value": series.values.flatten().numpy(),
            }
            parts.append(pd.DataFrame(columns))
    if not parts:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# A statistic takes the means of the cells ``[cell, ...]`` and joins them to ``[...]``.
Statistic = Callable[[Tensor], Tensor]


def mean_of_cells(means: Tensor) -> Tensor:
    """The mean over cells; of a single cell its mean."""
    return means.mean(0)


def db_of_mean(means: Tensor) -> Tensor:
    """Decibels of the mean over cells ("linear mean")."""
    return 10 * torch.log10(means.mean(0))


def mean_of_db(means: Tensor) -> Tensor:
    """The mean over cells of each cell's decibels ("mean of dB")."""
    return (10 * torch.log10(means)).mean(0)


def summarise(
    table: pd.DataFrame,
    by: Sequence[str],
    statistic: Statistic = mean_of_cells,
    *,
    against: str | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimates with intervals: one row for each combination of the columns ``by``.

    Values are averaged within each cell, and ``statistic`` joins the cells. In the bootstrap every cell resamples its
    own drops, because links of one drop are not independent: :func:`airlam.metrics.intervals.bootstrap`.

    Args:
        table: of :func:`measurements` or :func:`tidy`, or rows of it; one metric at a time.
        by: columns, ``["method"]`` for means over all cells, ``["method", "cell"]`` for each cell alone.
        statistic: of the cells' means: :func:`mean_of_cells`, :func:`db_of_mean`, :func:`mean_of_db`, or your own.
        against: a method. The estimate is then the *paired* difference ``statistic(method) - statistic(against)`` on
            the same items; that method itself has no row.
        level: of the interval.
        seed: of the bootstrap.

    Returns:
        Columns ``by``, ``estimate``, ``low``, ``high`` (infinite where a single drop allows no interval),
        ``num_drops``, ``num_values``.

    Raises:
        ValueError: several metrics, or ``against`` has no values for an item of another method: the comparison would
            not be paired.
    """
    import pandas as pd

    if (metrics := sorted(table["metric"].unique())) and len(metrics) > 1:
        raise ValueError(f"the table holds several metrics ({', '.join(metrics)}); take the rows of one")
    keys = [name for name in by if name != "method"]
    place = ["cell", "per", "drop", "item", "at"]
    other = None if against is None else table[table["method"] == against]
    rows = []
    for values, part in table.groupby(list(by), dropna=False, sort=False, observed=True):
        where: Mapping[str, Any] = dict(zip(by, values if isinstance(values, tuple) else (values,), strict=True))
        columns = ["value"]
        if other is not None:
            if where.get("method") == against:
                continue
            reference = other
            for name in keys:
                same = reference[name].isna() if pd.isna(where[name]) else reference[name] == where[name]
                reference = reference[same]
            part = part.merge(reference[[*place, "value"]], on=place, how="left", suffixes=("", "_of_other"))
            columns.append("value_of_other")
            if part["value_of_other"].isna().any():
                raise ValueError(f"{against} was not measured wherever {where} was; the comparison is not paired")
        cells = [_by_drop(cell, columns) for _, cell in part.groupby("cell", sort=True)]

        def joined(means: list[list[Tensor]]) -> Tensor:
            found = [statistic(torch.stack(column)) for column in zip(*means, strict=True)]
            return found[0] if len(found) == 1 else found[0] - found[1]

        ends = bootstrap(cells, joined, level=level, seed=seed)
        estimate = dict(zip(("estimate", "low", "high"), map(float, ends), strict=True))
        rows.append({**where, **estimate, "num_drops": sum(len(c) for _, c in cells), "num_values": len(part)})
    return pd.DataFrame(rows, columns=[*by, "estimate", "low", "high", "num_drops", "num_values"])


def _by_drop(cell: pd.DataFrame, columns: list[str]) -> tuple[Tensor, Tensor]:
    values = [torch.tensor(cell[name].to_numpy()) for name in columns]
    return group_sums(values, torch.tensor(cell["drop"].to_numpy()))
