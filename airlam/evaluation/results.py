"""Measurements as one tidy table: one row for each value, and summaries of it with intervals.

A benchmark measures *series*: the values of one metric of one method in one cell, one value for each link, group of
users, user, or for the cell as a whole. :class:`CellRecord` holds the series of a cell and is stored as JSON lines.
:func:`tidy` makes a pandas table of any number of cells, and :func:`summarise` turns rows of that table into estimates
with 95 % intervals. Nothing is ever found by taking a name apart: what a figure depends on is a column.

Columns of the table (:data:`COLUMNS`): ``group`` (the table of the report), ``cell``, ``data``, ``speed_kmh``,
``csi_snr_db``, ``label`` (an impairment, a variant of the cell), ``method``, ``metric``, ``unit``, ``users`` (size of
the group served together, 0 for one link), ``at`` (place on an axis: transmit SNR, horizon; NaN where there is none),
``drop``, ``item`` (number of the link, group or user), ``value``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airlam.errors import StoreError
from airlam.io import write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "airlam-cell/2"
LEVEL, NUM_RESAMPLES = 0.95, 2000
COLUMNS = (
    "group",
    "cell",
    "data",
    "speed_kmh",
    "csi_snr_db",
    "label",
    "method",
    "metric",
    "unit",
    "users",
    "at",
    "drop",
    "item",
    "value",
)
Per = Literal["link", "group", "user", "cell"]


@dataclass(frozen=True)
class Series:
    """Values of one metric of one method in one cell.

    Attributes:
        method: the method's name in tables.
        metric: what was measured: ``nmse``, ``sum_se``, ``user_rate``, ``latency_p50``, ...
        unit: ``1`` for a bare ratio, ``bit/s/Hz``, ``s``, ...
        values: finite numbers, one for each unit of ``per``.
        per: what a value belongs to: a link, a group of users, a user of a group (group by group), or the whole cell.
        users: size of the groups, 0 for links.
        at: place on the metric's axis (transmit SNR [dB], horizon [s]), ``None`` where there is none.
        modelled: derived by a stated formula instead of measured.

    Raises:
        ValueError: a value that is not finite, or none at all.
    """

    method: str
    metric: str
    unit: str
    values: tuple[float, ...]
    per: Per = "link"
    users: int = 0
    at: float | None = None
    modelled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in np.ravel(self.values)))
        if not self.values:
            raise ValueError(f"{self.metric} of {self.method} has no values")
        if not all(math.isfinite(v) for v in self.values):
            raise ValueError(f"{self.metric} of {self.method} holds NaN or infinity; leave the series out if unknown")


@dataclass
class CellRecord:
    """All that was measured in one cell.

    Attributes:
        cell: plain data that says what the cell is: at least ``group``, ``data``, ``speed_kmh``, ``csi_snr_db``.
        drop: the drop of each link.
        group_drop: size of the groups -> the drop of each group.
        series: what was measured.
        methods: method -> ``settings`` (what tuning chose), ``parameters`` (total, trained).
        extras: anything else, plain data (seconds spent, a picture).
    """

    cell: dict[str, Any]
    drop: list[int]
    group_drop: dict[int, list[int]] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    def drops_of(self, series: Series) -> list[int]:
        """The drop of each value of ``series``; -1 for a figure of the whole cell.

        Raises:
            ValueError: the number of values is not that of the links, groups or users.
        """
        if series.per == "cell":
            drops = [-1]
        elif series.per == "link":
            drops = self.drop
        else:
            drops = self.group_drop[series.users]
            drops = [d for d in drops for _ in range(series.users)] if series.per == "user" else drops
        if len(drops) != len(series.values):
            raise ValueError(
                f"{series.metric} of {series.method} has {len(series.values)} values for {len(drops)} of its kind "
                f"({series.per}); give one value for each"
            )
        return drops

    def save(self, path: str | Path) -> Path:
        """Write the record as JSON lines, atomically: the cell first, then one series a line."""
        head = {"schema": SCHEMA, **{k: v for k, v in asdict(self).items() if k != "series"}}
        lines = [head, *(asdict(series) for series in self.series)]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        return write_text(path, text)

    @classmethod
    def load(cls, path: str | Path) -> CellRecord:
        """Read a record.

        Raises:
            StoreError: the file is damaged, or of another schema.
        """
        try:
            head, *lines = (json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines())
            schema = head.pop("schema", None)
            if schema != SCHEMA:
                raise StoreError(f"{path} has schema {schema!r}, this version of airlam reads {SCHEMA!r}")
            head["group_drop"] = {int(users): drops for users, drops in head["group_drop"].items()}
            return cls(**head, series=[Series(**{**line, "values": tuple(line["values"])}) for line in lines])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path} is no record of a cell ({error})") from None


def tidy(records: Iterable[CellRecord]) -> pd.DataFrame:
    """One row for each measured value; see the module's docstring for the columns.

    Example:
        >>> record = CellRecord({"group": "cell", "data": "uma_nlos", "speed_kmh": 3.0, "csi_snr_db": 20.0}, [0, 0, 1])
        >>> record.series.append(Series("ar", "nmse", "1", (0.1, 0.2, 0.3)))
        >>> print(*tidy([record])[["method", "metric", "drop", "value"]].iloc[-1])
        ar nmse 1 0.3
    """
    import pandas as pd

    parts = []
    for number, record in enumerate(records):
        cell = record.cell
        for series in record.series:
            parts.append(
                pd.DataFrame(
                    {
                        "drop": np.asarray(record.drops_of(series), np.int64),
                        "item": np.arange(len(series.values)),
                        "value": np.asarray(series.values, np.float64),
                    }
                ).assign(
                    group=cell.get("group", ""),
                    cell=number,
                    data=cell.get("data", ""),
                    speed_kmh=_number(cell.get("speed_kmh")),
                    csi_snr_db=_number(cell.get("csi_snr_db")),
                    label=cell.get("label", ""),
                    method=series.method,
                    metric=series.metric,
                    unit=series.unit,
                    users=series.users,
                    at=_number(series.at),
                )
            )
    if not parts:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# A statistic takes the means of the cells, ``[..., cell]``, and gives ``[...]``.
Statistic = Callable[[np.ndarray], np.ndarray]


def mean_of_cells(means: np.ndarray) -> np.ndarray:
    """The mean over cells; of a single cell its mean."""
    return means.mean(-1)


def db_of_mean(means: np.ndarray) -> np.ndarray:
    """Decibels of the mean over cells ("linear mean")."""
    return 10 * np.log10(means.mean(-1))


def mean_of_db(means: np.ndarray) -> np.ndarray:
    """The mean over cells of each cell's decibels ("mean of dB")."""
    return (10 * np.log10(means)).mean(-1)


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

    Values are averaged within each cell, ``statistic`` joins the cells. The interval is the expanded percentile
    interval of a bootstrap in which every cell resamples its own drops (T. Hesterberg, "What teachers should know
    about the bootstrap", 2015, section 4): links of one drop are not independent.

    Args:
        table: of :func:`tidy`, or rows of it; one metric at a time.
        by: columns, ``["method"]`` for means over all cells, ``["method", "cell"]`` for each cell alone.
        statistic: of the cells' means.
        against: a method. The estimate is then the *paired* difference ``statistic(method) - statistic(against)`` on
            the same items; that method itself has no row.
        level: of the interval.
        seed: of the bootstrap.

    Returns:
        Columns ``by``, ``estimate``, ``low``, ``high`` (NaN where a single drop allows no interval), ``num_drops``,
        ``num_values``.

    Raises:
        ValueError: ``against`` has no values for an item of another method: the comparison would not be paired.
    """
    import pandas as pd

    keys = [name for name in by if name != "method"]
    place = ["cell", "drop", "item", "at", "users"]
    other = None if against is None else table[table["method"] == against]
    rows = []
    for values, part in table.groupby(list(by), dropna=False, sort=False, observed=True):
        where: Mapping[str, Any] = dict(zip(by, values if isinstance(values, tuple) else (values,), strict=True))
        if other is not None:
            if where.get("method") == against:
                continue
            reference = other
            for name in keys:
                same = reference[name].isna() if pd.isna(where[name]) else reference[name] == where[name]
                reference = reference[same]
            paired = part.merge(reference[[*place, "value"]], on=place, how="left", suffixes=("", "_of_other"))
            if paired["value_of_other"].isna().any():
                raise ValueError(f"{against} was not measured wherever {where} was; the comparison is not paired")
            part = paired
        columns = ["value"] if other is None else ["value", "value_of_other"]
        cells = [_by_drop(cell, columns) for _, cell in part.groupby("cell", sort=True)]
        estimate, low, high = interval(cells, statistic, level=level, seed=seed)
        drops = sum(len(counts) for _, counts in cells)
        rows.append(
            {**where, "estimate": estimate, "low": low, "high": high, "num_drops": drops, "num_values": len(part)}
        )
    return pd.DataFrame(rows, columns=[*by, "estimate", "low", "high", "num_drops", "num_values"])


def _by_drop(cell: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums ``[drop, column]`` and counts ``[drop]`` of one cell."""
    groups = cell.groupby("drop", sort=True)
    return groups[columns].sum().to_numpy(), groups.size().to_numpy(np.float64)


def interval(
    cells: Sequence[tuple[np.ndarray, np.ndarray]], statistic: Statistic, *, level: float = LEVEL, seed: int = 0
) -> tuple[float, float, float]:
    """Estimate, low and high end of ``statistic`` over cells, each resampling its own drops.

    Args:
        cells: of each cell the sums ``[drop, column]`` and counts ``[drop]``. With two columns the estimate is the
            statistic of the first minus that of the second, resampled together.
        statistic: see :data:`Statistic`.

    Example:
        >>> sums, counts = np.array([[1.0], [2.0], [3.0]]), np.ones(3)
        >>> interval([(sums, counts)], mean_of_cells)[0]
        2.0
    """
    from scipy import stats

    def value(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        means = []
        for (sums, counts), index in zip(cells, drawn, strict=True):
            index = np.moveaxis(index, axis, -1).astype(np.int64)
            means.append(sums[index].sum(-2) / counts[index].sum(-1)[..., None])  # [..., column]
        joined = np.stack(means, -1)  # [..., column, cell]
        found = [statistic(joined[..., column, :]) for column in range(joined.shape[-2])]
        return found[0] if len(found) == 1 else found[0] - found[1]

    index = [np.arange(len(counts)) for _, counts in cells]
    estimate = float(value(*index))
    sizes = [len(i) for i in index]
    if min(sizes) < 2:
        return estimate, math.nan, math.nan
    # too narrow by sqrt((n - 1) / n), with normal instead of t quantiles: both are made up for; smallest cell's factor
    wide = math.sqrt(min(sizes) / (min(sizes) - 1)) * stats.t.ppf((1 + level) / 2, sum(sizes) - len(sizes))
    found = stats.bootstrap(
        index,
        value,
        paired=False,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        method="percentile",
        confidence_level=1 - 2 * stats.norm.cdf(-wide),
        rng=np.random.default_rng(seed),
    )
    return estimate, float(found.confidence_interval.low), float(found.confidence_interval.high)
