"""Rows from the records of finished cells: figures, intervals, paired gains, and the means over cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.contenders import GENIES, OFF
from airlam.evaluation.engine.timing import timed_figure
from airlam.evaluation.report.style import is_learned, parts
from airlam.evaluation.report.verdicts import NO_VERDICT, verdict
from airlam.evaluation.rows import Figure, Row, sum_se_name
from airlam.io import recipe_hash
from airlam.methods import names
from airlam.metrics import break_even_latency, five_percent_user_rate, latency_charged_se

SE = "bit/s/Hz"
TIMED = (("latency_p50_ms", "ms"), ("latency_p99_ms", "ms"), ("precoding_p50_ms", "ms"), ("flops", "FLOP"))


def cell_rows(record: dict[str, Any], bar: str) -> list[Row]:
    """One row per method of a cell's record."""
    cell, drop = record["cell"], torch.tensor(record["drop"])
    rows = []
    for method, entry in record["methods"].items():
        row = new_row(record, method)
        figures = row.figures
        if "nmse" in entry:
            values = torch.tensor(entry["nmse"], dtype=torch.float64)
            figures["nmse"] = statistics.mean_figure(values, drop, "1")
            figures["nmse_db"] = statistics.db_figure(values, drop)
            steps = torch.tensor(entry["nmse_steps"], dtype=torch.float64)
            axis = [round(1e3 * cell["recipe"]["slot_duration"] * (s + 1), 6) for s in range(steps.shape[1])]
            figures["nmse_steps_db"] = statistics.db_curve(steps, drop, axis, "horizon [ms]")
            reference = record["methods"].get(bar)
            if reference is not None and method != bar:
                figures["gain_db"] = statistics.gain_db(values, torch.tensor(reference["nmse"]).double(), drop)
            for genie in GENIES:
                if genie in record["methods"] and genie != method:
                    limit = torch.tensor(record["methods"][genie]["nmse"]).double()
                    figures[f"above_{genie}_db"] = statistics.gain_db(limit, values, drop)
        if "se_single" in entry:
            single = torch.tensor(entry["se_single"], dtype=torch.float64)
            figures["se_single"] = statistics.mean_figure(single, drop, SE)
        for users, groups in entry.get("groups", {}).items():
            by_group = torch.tensor(record["group_drop"][users])
            rates = torch.tensor(groups["user_rates"], dtype=torch.float64)
            figures[sum_se_name(users)] = statistics.mean_figure(rates.sum(1), by_group, SE)
            curve = torch.tensor(groups["sum_se_vs_snr"], dtype=torch.float64).mT
            figures[sum_se_name(users, "over_snr")] = statistics.curve(
                curve, by_group, list(cell["transmit_snr_db"]), "transmit SNR [dB]", SE
            )
            if bar in record["methods"] and method != bar:
                other = torch.tensor(record["methods"][bar]["groups"][users]["user_rates"]).double().sum(1)
                figures[sum_se_name(users, "gain")] = statistics.gain(rates.sum(1), other, by_group, SE)
            if "se_5pct" not in figures:  # of the smallest groups
                figures["se_5pct"] = Figure(float(five_percent_user_rate(rates)), SE, "measured")
        for name, unit in TIMED:
            if name in entry:
                figures[name] = timed_figure(entry, name, unit)
        rows.append(row)
    return rows


def new_row(record: dict[str, Any], method: str, group: str | None = None) -> Row:
    """A row with everything but figures."""
    cell, entry = record["cell"], record["methods"][method]
    settings = dict(entry["settings"]) | ({"impairment": cell["label"]} if cell["group"] == "impairments" else {})
    total, trainable = entry["parameters"]
    return Row(
        method,
        cell["data"],
        recipe_hash(cell["recipe"]),
        cell["speed_kmh"],
        cell["csi_snr_db"],
        cell["history"],
        cell["horizon"],
        total,
        trainable,
        settings,
        {"benchmark": cell["seed"]},
        len(record["drop"]),
        len(set(record["drop"])),
        group=group or cell["group"],
    )


def mean_rows(records: list[dict[str, Any]], bar: str, timed: dict[str, dict[str, Any]]) -> list[Row]:
    """One row per method over all headline cells: both means of NMSE, paired gains, sum-SE.

    Args:
        records: of the headline cells.
        bar: what gains are relative to.
        timed: entries with latency and FLOPs, by method.
    """
    methods = [m for m in records[0]["methods"] if all(m in record["methods"] for record in records)]
    drops = [torch.tensor(record["drop"]) for record in records]
    first = records[0]["cell"]
    rows = []
    for method in methods:
        row = Row(
            method,
            ", ".join(dict.fromkeys(record["cell"]["data"] for record in records)),
            recipe_hash([record["cell"]["recipe"] for record in records]),
            None,
            first["csi_snr_db"],
            first["history"],
            first["horizon"],
            parameters_total=records[0]["methods"][method]["parameters"][0],
            parameters_trainable=records[0]["methods"][method]["parameters"][1],
            seeds={"benchmark": first["seed"]},
            num_links=sum(len(drop) for drop in drops),
            num_drops=sum(len(drop.unique()) for drop in drops),
            group="mean",
        )
        if "nmse" in records[0]["methods"][method]:
            add_mean_nmse(row, records, drops, bar)
        if "se_single" in records[0]["methods"][method]:
            single = [[_column(record, method, "se_single")] for record in records]
            row.figures["se_single"] = statistics.over_cells(statistics.mean_of_cells, single, drops, SE)
        _mean_sum_se(row, records, bar)
        entry = timed.get(method, {})
        for name, unit in TIMED:
            if name in entry:
                row.figures[name] = timed_figure(entry, name, unit)
        rows.append(row)
    return rows


def add_mean_nmse(row: Row, records: list[dict], drops: list[Tensor], bar: str) -> None:
    """Both means of a row's NMSE over cells, and its paired gains."""
    own = [[_column(record, row.method, "nmse")] for record in records]
    linear, cells = statistics.db_of_linear_mean, statistics.mean_of_cells_db
    row.figures["nmse_linear_db"] = statistics.over_cells(linear, own, drops, "dB")
    row.figures["nmse_cells_db"] = statistics.over_cells(cells, own, drops, "dB")
    for genie in GENIES:
        if genie != row.method and all(genie in record["methods"] for record in records):
            against = [[c[0], _column(record, genie, "nmse")] for record, c in zip(records, own, strict=True)]
            statistic = statistics.difference(cells)
            row.figures[f"above_{genie}_cells_db"] = statistics.over_cells(statistic, against, drops, "dB")
    if row.method == bar or not all(bar in record["methods"] for record in records):
        return
    pairs = [[_column(record, bar, "nmse"), columns[0]] for record, columns in zip(records, own, strict=True)]
    row.figures["gain_linear_db"] = statistics.over_cells(statistics.difference(linear), pairs, drops, "dB")
    row.figures["gain_cells_db"] = statistics.over_cells(statistics.difference(cells), pairs, drops, "dB")
    for gain, reference in references(row.method, records):
        against = [[_column(record, reference, "nmse"), c[0]] for record, c in zip(records, own, strict=True)]
        for name, statistic in (("linear", linear), ("cells", cells)):
            found = statistics.over_cells(statistics.difference(statistic), against, drops, "dB")
            row.figures[f"{gain}_gain_{name}_db"] = replace(found, note=reference)
    gains = [statistics.gain_db(pair[1], pair[0], drop) for pair, drop in zip(pairs, drops, strict=True)]
    words = [verdict(gain) for gain in gains]
    row.figures["cells"] = Figure(len(records), "1", "measured")
    row.figures["cells_better"] = Figure(words.count("better"), "1", "measured")
    row.figures["cells_worse"] = Figure(words.count("worse"), "1", "measured")
    row.figures["cells_judged"] = Figure(len(words) - words.count(NO_VERDICT), "1", "measured")


def references(method: str, records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a learned method is compared with besides the baseline: ``(name of the gain, reference)``."""
    if not is_learned(method):
        return []
    name, variant, share = parts(method)
    pairs = [("best_classic", best_classic(records))]
    if variant in ("", "adapted"):
        pairs.append(("start", name + OFF))
    if variant == "adapted":
        pairs += [("adaptation", name), ("pretraining", f"{name}:random-start{share and '-' + share}")]
    return [(gain, ref) for gain, ref in pairs if ref and all(ref in record["methods"] for record in records)]


def best_classic(records: list[dict[str, Any]]) -> str | None:
    """Of the classical methods that were run in every cell, the one with the lowest mean over cells of NMSE in dB."""
    methods = [m for m in names(kind="classical") if all(m in record["methods"] for record in records)]

    def mean_db(method: str) -> float:
        means = torch.stack([_column(record, method, "nmse").mean() for record in records])
        return float(means.log10().mean())

    return min(methods, key=mean_db, default=None)


def _mean_sum_se(row: Row, records: list[dict], bar: str) -> None:
    for users in records[0]["group_drop"]:
        drops = [torch.tensor(record["group_drop"][users]) for record in records]
        own = [[_rates(record, row.method, users).sum(1)] for record in records]
        row.figures[sum_se_name(users)] = statistics.over_cells(statistics.mean_of_cells, own, drops, SE)
        if row.method != bar and all(bar in record["methods"] for record in records):
            row.figures[sum_se_name(users, "gain")] = mean_sum_se_gain(records, row.method, bar, users)
        if "se_5pct" not in row.figures:
            every = torch.cat([_rates(record, row.method, users).flatten() for record in records])
            row.figures["se_5pct"] = Figure(float(five_percent_user_rate(every)), SE, "measured")


def mean_sum_se_gain(records: list[dict[str, Any]], method: str, other: str, users: str) -> Figure:
    """Mean over cells of the paired difference in sum-SE; its note names the method compared with."""
    drops = [torch.tensor(record["group_drop"][users]) for record in records]
    pairs = [[_rates(record, name, users).sum(1) for name in (method, other)] for record in records]
    found = statistics.over_cells(statistics.difference(statistics.mean_of_cells), pairs, drops, SE)
    return replace(found, note=other)


def age_rows(record: dict[str, Any], bar: str, *, csi_period: int, max_latency_ms: float = 10.0) -> list[Row]:
    """The latency-charged curve of each timed method, its own latency on it, and where it breaks even with ``bar``."""
    cell = record["cell"]
    slot = cell["recipe"]["slot_duration"]
    users = next(iter(record["group_drop"]))
    latency = torch.linspace(0.0, max_latency_ms, round(10 * max_latency_ms) + 1, dtype=torch.float64)
    rows, at_p50 = [], {}
    for method, entry in record["methods"].items():
        steps = torch.tensor(entry["groups"][users]["sum_se_steps"], dtype=torch.float64).mean(0)

        def charged(milliseconds: Tensor, steps: Tensor = steps) -> Tensor:
            return latency_charged_se(steps, milliseconds * 1e-3, slot_duration=slot, csi_period=csi_period)

        row = new_row(record, method, "age")
        curve, axis = charged(latency).tolist(), [round(x, 3) for x in latency.tolist()]
        row.figures["latency_charged_sum_se"] = Figure(curve, SE, "modelled", None, axis, "latency [ms]")
        for name in ("latency_p50_ms", "latency_p99_ms"):
            if name in entry:
                row.figures[name] = timed_figure(entry, name, "ms")
                if entry[name] <= max_latency_ms:
                    value = float(charged(torch.tensor(entry[name], dtype=torch.float64)))
                    row.figures[f"latency_charged_at_{name[8:11]}"] = Figure(value, SE, "modelled")
        if "latency_charged_at_p50" in row.figures:
            at_p50[method] = row.figures["latency_charged_at_p50"].number
        rows.append(row)
    for row in rows:
        if bar in at_p50 and row.method != bar:
            values = torch.tensor(row.figures["latency_charged_sum_se"].value, dtype=torch.float64)
            even = float(break_even_latency(values, latency, at_p50[bar]))
            row.settings["break_even"] = (
                "never" if even != even else f"{even:.1f}{'+' if even >= max_latency_ms else ''}"
            )
    return rows


def csi_period_rows(records: list[dict[str, Any]], *, pilot_symbols: int = 1, symbols_per_slot: int = 14) -> list[Row]:
    """Sum-SE and NMSE against CSI period, and sum-SE net of the pilots: ``(1 - pilot time / period)`` of it.

    One CSI occasion is taken to cost ``pilot_symbols`` of the ``symbols_per_slot`` OFDM symbols of a 0.5 ms slot.
    """
    records = sorted(records, key=lambda record: record["cell"]["recipe"]["slot_duration"])
    users = next(iter(records[0]["group_drop"]))
    periods = [round(1e3 * record["cell"]["recipe"]["slot_duration"], 6) for record in records]
    pilot_ms = 0.5 * pilot_symbols / symbols_per_slot
    rows = []
    for method in records[0]["methods"]:
        row = new_row(records[0], method)
        row.settings = {}
        figures = [
            statistics.mean_figure(_rates(record, method, users).sum(1), torch.tensor(record["group_drop"][users]), SE)
            for record in records
        ]
        measured = statistics.join(figures, periods, "CSI period [ms]")
        gross = [figure.number for figure in figures]
        net = [value * max(0.0, 1 - pilot_ms / period) for value, period in zip(gross, periods, strict=True)]
        row.figures[sum_se_name(users)] = measured
        row.figures[sum_se_name(users, "net")] = Figure(net, SE, "modelled", None, periods, measured.axis_name)
        if all("nmse" in record["methods"][method] for record in records):
            errors = [
                statistics.db_figure(_column(record, method, "nmse"), torch.tensor(record["drop"]))
                for record in records
            ]
            row.figures["nmse_db"] = statistics.join(errors, periods, measured.axis_name)
        rows.append(row)
    return rows


def path_loss_rows(record: dict[str, Any], bar: str) -> list[Row]:
    """Sum-SE with true path loss, of the smallest groups."""
    rows = []
    for method, entry in record["methods"].items():
        if "path_loss_user_rates" not in entry:
            continue
        rates = torch.tensor(entry["path_loss_user_rates"], dtype=torch.float64)
        users = str(rates.shape[1])
        row = new_row(record, method, "path_loss")
        drop = torch.tensor(record["group_drop"][users])
        row.figures[sum_se_name(users)] = statistics.mean_figure(rates.sum(1), drop, SE)
        row.figures["se_5pct"] = Figure(float(five_percent_user_rate(rates)), SE, "measured")
        rows.append(row)
    return rows


def _column(record: dict[str, Any], method: str, name: str) -> Tensor:
    return torch.tensor(record["methods"][method][name], dtype=torch.float64)


def _rates(record: dict[str, Any], method: str, users: str) -> Tensor:
    return torch.tensor(record["methods"][method]["groups"][users]["user_rates"], dtype=torch.float64)
