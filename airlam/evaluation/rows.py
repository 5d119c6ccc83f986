"""The row: what every evaluation of airlam says about one method in one setting, and the file that holds rows.

Rule 1 of an evaluation is that a figure never stands without its context. A :class:`Row` names the method, its
size, the data it was judged on (recipe and hash), speed, CSI SNR and seeds; each :class:`Figure` carries its unit, its
95 % interval, and whether it was *measured* (computed or timed in this run) or *modelled* (derived from measured
figures by a stated formula). :class:`Results` is the content of ``results.json``.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from airlam.errors import StoreError
from airlam.io import read_json, write_json

SCHEMA = "airlam-results/1"
SUM_SE, BLER = "sum_se_k", "bler_mcs"  # a figure's name is one of these and a number; only this module reads it
Kind = Literal["measured", "modelled"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """One number, or one curve, with unit, tag and 95 % interval.

    Attributes:
        value: a number, or a list along ``axis``.
        unit: "dB", "bit/s/Hz", "ms", "1" for a bare ratio.
        kind: "measured" or "modelled".
        interval: 95 % interval ``(low, high)``; a list of them for a curve; ``None`` where there is none.
        axis: the points a curve was taken at.
        axis_name: what the axis is, with its unit ("transmit SNR [dB]").
        note: how the figure came about, where the name does not say it; of a gain, the method that it is over.
        groups: how many independent groups (drops, or users of one site) the interval was resampled over; of a mean
            over cells, those of the cell with the fewest; ``None``: not stated.

    Raises:
        ValueError: a tag that is neither word, a value that is not finite, or lists of different lengths.

    Example:
        >>> Figure(-15.2, "dB", "measured", interval=(-15.6, -14.8)).kind
        'measured'
    """

    value: float | list[float]
    unit: str
    kind: Kind
    interval: Interval | list[Interval] | None = None
    axis: list[float] | None = None
    axis_name: str = ""
    note: str = ""
    groups: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "modelled"):
            raise ValueError(f"a figure is 'measured' or 'modelled', got {self.kind!r}")
        is_curve = isinstance(self.value, list)
        values = self.value if isinstance(self.value, list) else [self.value]
        if not values or not all(math.isfinite(v) for v in values):
            raise ValueError(
                f"a figure's value must be finite, got {self.value}; leave the figure out if it is unknown"
            )
        if is_curve != (self.axis is not None):
            raise ValueError("a curve needs an axis and a number has none; give axis= exactly when value is a list")
        if self.axis is not None and len(self.axis) != len(values):
            raise ValueError(f"a curve of {len(values)} values has an axis of {len(self.axis)} points; make them equal")
        if self.interval is not None:
            intervals: Any = self.interval if is_curve else [self.interval]
            if len(intervals) != len(values):
                raise ValueError(f"{len(values)} values have {len(intervals)} intervals; give one (low, high) for each")
            for low, high in intervals:
                if not low <= high:
                    raise ValueError(f"an interval is (low, high) with low <= high, got ({low}, {high})")

    @property
    def number(self) -> float:
        """The value of a figure that is no curve."""
        if isinstance(self.value, list):
            raise TypeError(f"a curve over {self.axis_name or 'an axis'} is no single number")
        return float(self.value)

    @property
    def ends(self) -> Interval:
        """The interval of a number; where there is none, both ends are the value."""
        return self.interval if isinstance(self.interval, tuple) else (self.number, self.number)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Figure:
        """The inverse of ``dataclasses.asdict``, after a trip through JSON (tuples became lists)."""
        data = dict(data)
        if (interval := data.get("interval")) is not None:
            data["interval"] = (
                [(low, high) for low, high in interval] if isinstance(data["value"], list) else tuple(interval)
            )
        return cls(**data)


@dataclass
class Row:
    """One method in one setting.

    Attributes:
        method: the method's name in tables.
        data: name of the channel recipe (or a sentence), ``data_hash``: :func:`recipe_hash` of the resolved recipe.
        speed_kmh: user speed [km/h]; ``None`` where a row is a mean over speeds.
        csi_snr_db: SNR of the measured history [dB]; ``None`` where a row is a mean over several.
        history, horizon: slots seen and slots predicted.
        parameters_total, parameters_trainable: size; 0 for classical methods.
        settings: what was tuned, or trained, for this row.
        seeds: every seed that this row's figures depend on, by purpose.
        num_links, num_drops: what the intervals rest on.
        figures: by name; common names are ``nmse``, ``nmse_db``, ``nmse_steps_db``, ``gain_db``, ``se_single``,
            ``sum_se_k4``, ``se_5pct_k4``, ``latency_p50_ms``, ``latency_p99_ms``, ``flops``.
        group: rows of one table share it ("cell", "mean", "impairments", ...).
        note: one sentence, where needed.
        label: of the cell, where it has one (:attr:`airlam.evaluation.engine.cell.Cell.label`).
    """

    method: str
    data: str
    data_hash: str = ""
    speed_kmh: float | None = None
    csi_snr_db: float | None = None
    history: int = 0
    horizon: int = 0
    parameters_total: int = 0
    parameters_trainable: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    num_links: int = 0
    num_drops: int = 0
    figures: dict[str, Figure] = field(default_factory=dict)
    group: str = "cell"
    note: str = ""
    label: str = ""

    @property
    def group_sizes(self) -> list[int]:
        """Sizes of the groups of users whose sum spectral efficiency the row holds.

        Example:
            >>> Row("ar", "umi", figures={"sum_se_k4": Figure(9.1, "bit/s/Hz", "measured")}).group_sizes
            [4]
        """
        return _numbered(self.figures, SUM_SE)

    def sum_se(self, users: int) -> Figure | None:
        """Sum spectral efficiency [bit/s/Hz] of groups of ``users``."""
        return self.figures.get(sum_se_name(users))

    def sum_se_gain(self, users: int) -> Figure | None:
        """Paired difference of the sum spectral efficiency [bit/s/Hz] to that of the baseline."""
        return self.figures.get(sum_se_name(users, "gain"))

    def net_sum_se(self, users: int) -> Figure | None:
        """Sum spectral efficiency [bit/s/Hz] without the share of time that pilots take."""
        return self.figures.get(sum_se_name(users, "net"))

    def sum_se_over_snr(self, users: int) -> Figure | None:
        """Curve of the sum spectral efficiency [bit/s/Hz] over transmit SNR [dB]."""
        return self.figures.get(sum_se_name(users, "over_snr"))

    @property
    def mcs_entries(self) -> list[int]:
        """Entries of the MCS table whose block error rate the row holds."""
        return _numbered(self.figures, BLER)

    def bler(self, mcs: int) -> Figure | None:
        """Curve of the block error rate with one entry of the MCS table over transmit SNR [dB]."""
        return self.figures.get(bler_name(mcs))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Row:
        data = dict(data)
        data["figures"] = {name: Figure.from_dict(figure) for name, figure in data.get("figures", {}).items()}
        return cls(**data)


def sum_se_name(users: int | str, form: Literal["", "gain", "best_classic_gain", "net", "over_snr"] = "") -> str:
    """Name of a figure of the sum spectral efficiency of groups of ``users``.

    Args:
        form: "gain" over the baseline, "best_classic_gain" over the best classical method, "net" of pilots, the curve
            "over_snr"; empty for the number itself.

    Example:
        >>> sum_se_name(4), sum_se_name(4, "net")
        ('sum_se_k4', 'net_sum_se_k4')
    """
    forms = {
        "": "{}",
        "gain": "{}_gain",
        "best_classic_gain": "{}_best_classic_gain",
        "net": "net_{}",
        "over_snr": "{}_vs_snr",
    }
    return forms[form].format(f"{SUM_SE}{users}")


def bler_name(mcs: int) -> str:
    """Name of the figure that holds the block error rate of one entry of the MCS table."""
    return f"{BLER}{mcs}"


def group_sizes(rows: Iterable[Row]) -> list[int]:
    """Sizes of groups for which any of ``rows`` holds a sum spectral efficiency, in the order of the figures."""
    return list(dict.fromkeys(users for row in rows for users in row.group_sizes))


def _numbered(names: Iterable[str], begin: str) -> list[int]:
    """The numbers of the names that are ``begin`` and a number."""
    ends = (name.removeprefix(begin) for name in names if name.startswith(begin))
    return [int(end) for end in ends if end.isdigit()]


@dataclass
class Results:
    """Everything a report is made of: rows, and what is needed to make them again.

    Attributes:
        title: of the report.
        task: "channel_prediction", ...
        rows: the figures.
        environment: versions, processor, threads, command, date; see :func:`environment`.
        config: the benchmark's own arguments.
        recipes: every data recipe used, resolved, by name.
        headline: the sentence on top; computed from the rows.
        notes: sentences a reader must know.
        extras: what is drawn but is no figure of a row (a picture of one channel).
        cells: names of the finished cells behind the rows, in the folder ``cells``; see
            :func:`airlam.evaluation.measurements`.
    """

    title: str
    task: str
    rows: list[Row] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, Any] = field(default_factory=dict)
    headline: str = ""
    notes: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    schema: str = SCHEMA

    def save(self, path: str | Path) -> Path:
        """Write ``results.json`` atomically."""
        return write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read ``results.json``.

        Raises:
            StoreError: the file is not JSON, or of another schema.
        """
        data = read_json(path)
        if data.get("schema") != SCHEMA:
            raise StoreError(f"{path} has schema {data.get('schema')!r}, this version of airlam reads {SCHEMA!r}")
        data["rows"] = [Row.from_dict(row) for row in data["rows"]]
        return cls(**data)

    def select(self, **fields: Any) -> list[Row]:
        """Rows whose attributes equal ``fields``: ``results.select(group="mean", method="ar")``."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in fields.items())]


def environment(*, threads: int, command: str | None = None) -> dict[str, Any]:
    """Versions, processor, threads, command and date of this run."""
    packages = ("airlam", "torch", "numpy", "sionna-no-rt", "sionna", "transformers", "peft", "lightning", "flwr")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor_name() -> str:
    """The processor's model name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
