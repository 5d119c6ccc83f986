"""Latencies of chains, what they cost, and their tables."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from airlam.evaluation.benchmarks.realtime.chains import Chains
from airlam.evaluation.benchmarks.realtime.config import LATEST_S, RealtimeArguments
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.summarise import new_row
from airlam.evaluation.engine.timing import cell_figure
from airlam.evaluation.latency.reference import REFERENCE
from airlam.evaluation.latency.timing import on_one_core, time_in_turn
from airlam.evaluation.report.style import look, order, title
from airlam.evaluation.results import SE, CellRecord, file_names, group_of
from airlam.evaluation.rows import Figure, Results, Row
from airlam.metrics import latency_charged_se

BAR, CLASSIC = "ar + rzf", "eigen-ar + robust rzf"
ONE, EACH = "one_core", "core_each"


def time_chains(config: RealtimeArguments, cell: Cell, chains: Chains) -> CellRecord:
    """Latencies of all chains, in turn on one core."""
    record, calls = CellRecord(asdict(cell), {}), {}
    for users in config.chains.users:
        calls |= chains.calls(users)
    with on_one_core():
        timings = time_in_turn(calls, next(iter(calls)), rounds=config.timed.rounds, seconds=config.timed.seconds)
    for label, timing in timings.items():
        record.add(cell_figure(label, "p50_ms", timing.p50_ms, "ms"), cell_figure(label, "p99_ms", timing.p99_ms, "ms"))
    return record


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one chain.

    Attributes:
        whole: from the newest slot of all users to their beams, on one core. take: to take one slot of all users
            without a prediction. beams: the precoder alone, for as many slots as the CSI period has.
        worst: as ``whole``, 99th percentile.
    """

    users: int
    whole: float
    take: float
    beams: float
    worst: float

    @classmethod
    def of(cls, timing: CellRecord, chain: str, users: int, csi_period: int) -> Cost | None:
        """From the record of :func:`time_chains`; ``None`` for perfect CSI."""

        def number(part: str, metric: str = "p50_ms") -> float:
            return timing.number(f"{chain}|{users}|{part}", metric) or 0.0

        if not number("whole"):
            return None
        between = (csi_period - 1) * number("take")
        whole, worst = number("whole") - between, number("whole", "p99_ms") - between
        return cls(users, whole, number("take"), number("beams"), worst)

    def latency(self, cores: str) -> float:
        """On one core, or with one for each user and the precoder on one of them."""
        return self.whole if cores == ONE else (self.whole - self.beams) / self.users + self.beams

    def period(self, cores: str, csi_period: int, slot_ms: float) -> int | None:
        """Slots between two predictions that the cores keep up with, at least ``csi_period``; ``None``: none."""
        take, share = (self.take, self.whole) if cores == ONE else (self.take / self.users, self.latency(EACH))
        if take >= slot_ms:
            return None
        return max(csi_period, math.ceil((share - take) / (slot_ms - take)))


def charged(steps: Tensor, cost: Cost | None, cores: str, csi_period: int, slot: float) -> Tensor | None:
    """Sum-SE ``[group]`` at the chain's own latency; ``None`` where that is too much."""
    latency = 0.0 if cost is None else cost.latency(cores)
    period = csi_period if cost is None else cost.period(cores, csi_period, 1e3 * slot)
    if period is None or latency > 1e3 * LATEST_S or period > LATEST_S / slot:
        return None
    ms = torch.tensor(1e-3 * latency, dtype=torch.float64)
    return latency_charged_se(steps, ms, slot_duration=slot, csi_period=period)


def add_chains(results: Results, config: RealtimeArguments, records: list[CellRecord], timing: CellRecord) -> None:
    """Rows and tables of chains."""
    results.cells += file_names([*records, timing])
    for users in config.chains.users:
        for record in records:
            rows = rows_of(record, timing, config, users)
            results.rows += rows
            results.extras["tables"].append(table(record, rows, users, config))
    links = records[0].drop()
    note = (
        f"Chains: groups of {' and '.join(map(str, config.chains.users))} users of one drop, {len(links)} links from "
        f"{len(links.unique())} drops; streams predict {config.chains.horizon} slots, beams are made for "
        f"{config.csi_period}. Between two predictions a stream takes every slot. On one core all users' pushes follow "
        "each other, and the precoder follows them; where that takes longer than the CSI period, beams serve until the "
        "next ones are ready. With a core for each user the precoder runs on one of them. Robust precoders are told "
        "the covariance of the streams' own past errors. Frozen AR: full predictions."
    )
    results.extras["details"] = results.extras["compared"] = [*results.extras["details"], note]


def rows_of(record: CellRecord, timing: CellRecord, config: RealtimeArguments, users: int) -> list[Row]:
    """A row for each chain: latencies, what it is worth on one core and on one for each user, paired differences."""
    slot, drop, worth, rows = record.cell["recipe"]["slot_duration"], record.drop(group_of(users)), {}, []
    for chain in record.methods:
        row = new_row(record, chain)
        row.label, steps = f"{users} users", record.values(chain, "sum_se_steps", group_of(users))
        cost = Cost.of(timing, chain, users, config.csi_period)
        first = steps[:, : config.csi_period].mean(1)
        row.figures["first_slots"] = statistics.mean_figure(first, drop, SE)
        if cost is not None:
            row.figures["beams_ms"] = Figure(cost.beams, "ms", "measured")
            row.figures["whole_p99_ms"] = Figure(cost.worst, "ms", "measured")
        for cores in (ONE, EACH):
            if cost is not None:
                latency = Figure(cost.latency(cores), "ms", "measured" if cores == ONE else "modelled")
                row.figures[f"latency_{cores}_ms"] = latency
                period = cost.period(cores, config.csi_period, 1e3 * slot)
                if period is not None:
                    row.figures[f"period_{cores}"] = Figure(period, "slots", "modelled")
            if (value := charged(steps, cost, cores, config.csi_period, slot)) is not None:
                worth[chain, cores] = value
                row.figures[f"charged_{cores}"] = replace(statistics.mean_figure(value, drop, SE), kind="modelled")
        rows.append(row)
    for row in rows:
        for cores in (ONE, EACH):
            for name, other in (("bar", BAR), ("classic", CLASSIC), ("frozen", f"{REFERENCE} + rzf")):
                if {(row.method, cores), (other, cores)} <= worth.keys() and row.method != other:
                    gain = statistics.gain(worth[row.method, cores], worth[other, cores], drop, SE)
                    row.figures[f"over_{name}_{cores}"] = replace(gain, kind="modelled", note=other)
    return rows


def table(record: CellRecord, rows: list[Row], users: int, config: RealtimeArguments) -> dict[str, Any]:
    """Of one cell and size of groups."""
    here, lines = {row.method: row.figures for row in rows}, []
    for chain in order(list(here)):
        figures = here[chain]

        def cell(name: str, style: str = ".2f", figures: dict[str, Figure] = figures) -> str:
            if name not in figures:
                return ""
            found = figures[name]
            if found.interval is None:
                return f"{found.number:{style}}"
            low, high = found.ends
            return f"{found.number:{style}} ({low:{style}} to {high:{style}})"

        late = "" if "beams_ms" not in figures else "too late"
        lines.append(
            [
                look(chain).label,
                " / ".join(filter(None, (cell("latency_one_core_ms"), cell("whole_p99_ms")))),
                cell("latency_core_each_ms"),
                cell("beams_ms"),
                cell("period_one_core", ".0f"),
                cell("first_slots"),
                cell("charged_one_core") or late,
                cell("over_classic_one_core", "+.2f"),
                cell("charged_core_each") or late,
                cell("over_bar_core_each", "+.2f"),
                cell("over_classic_core_each", "+.2f"),
            ]
        )
    first = rows[0]
    return {
        "title": f"Chains, {title(first.data)}, {first.speed_kmh:g} km/h, {users} users",
        "columns": [
            "chain",
            "one core: latency p50 / p99 [ms]",
            "a core each: latency p50 [ms]",
            "of it the precoder [ms]",
            "one core: slots between predictions that it keeps up with",
            f"sum-SE of the first {config.csi_period} slots, uncharged",
            "one core: sum-SE, charged",
            f"over {look(CLASSIC).label}",
            "a core each: sum-SE, charged",
            f"over {look(BAR).label}",
            f"over {look(CLASSIC).label}",
        ],
        "lines": lines,
        "text": f"{first.num_links} links from {first.num_drops} drops, {users} users together.",
    }
