"""Rows from the records of finished cells: figures, intervals, paired gains, and the means over cells."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.contenders import GENIES, OFF
from airlam.evaluation.engine.conventions import convention_figures
from airlam.evaluation.engine.timing import timed_figures
from airlam.evaluation.report.style import is_learned, parts
from airlam.evaluation.report.verdicts import NO_VERDICT, verdict
from airlam.evaluation.results import SE, CellRecord, group_of
from airlam.evaluation.rows import Figure, Row, sum_se_name
from airlam.io import recipe_hash
from airlam.methods import names
from airlam.metrics import break_even_latency, five_percent_user_rate, latency_charged_se

LABELLED = {"impairments": "impairment", "odd": "odd"}  # groups whose rows hold the label of their cell, and where


def cell_rows(record: CellRecord, bar: str) -> list[Row]:
    """One row per method of a cell's record."""
    rows = []
    for method in record.methods:
        row = new_row(record, method)
        if record.find(method, "nmse"):
            _add_nmse(row, record, bar)
        if single := record.find(method, "se_single"):
            row.figures["se_single"] = statistics.figure_of(record, single)
        for users in record.cell["users"]:
            _add_sum_se(row, record, users, bar)
        row.figures |= timed_figures(record, method) | convention_figures([record], method)
        rows.append(row)
    return rows


def _add_nmse(row: Row, record: CellRecord, bar: str) -> None:
    values, drop = record.values(row.method, "nmse"), record.drop()
    row.figures["nmse"] = statistics.mean_figure(values, drop, "1")
    row.figures["nmse_db"] = statistics.db_figure(values, drop)
    if steps := record.find(row.method, "nmse_steps"):
        row.figures["nmse_steps_db"] = statistics.on_axis(statistics.db_figure(steps.values, drop), steps)
    if bar in record.methods and row.method != bar:
        row.figures["gain_db"] = replace(statistics.gain_db(values, record.values(bar, "nmse"), drop), note=bar)
    for genie in GENIES:
        if genie in record.methods and genie != row.method:
            row.figures[f"above_{genie}_db"] = statistics.gain_db(record.values(genie, "nmse"), values, drop)


def _add_sum_se(row: Row, record: CellRecord, users: int, bar: str) -> None:
    per, figures = group_of(users), row.figures
    rates, drop = record.values(row.method, "user_rate", per), record.drop(per)
    figures[sum_se_name(users)] = statistics.mean_figure(rates.sum(1), drop, SE)
    if curve := record.find(row.method, "sum_se_vs_snr", per):
        figures[sum_se_name(users, "over_snr")] = statistics.figure_of(record, curve)
    if bar in record.methods and row.method != bar:
        other = record.values(bar, "user_rate", per).sum(1)
        figures[sum_se_name(users, "gain")] = replace(statistics.gain(rates.sum(1), other, drop, SE), note=bar)
    if "se_5pct" not in figures:  # of the smallest groups
        figures["se_5pct"] = Figure(float(five_percent_user_rate(rates)), SE, "measured")


def new_row(record: CellRecord, method: str, group: str | None = None) -> Row:
    """A row with everything but figures."""
    cell, facts = record.cell, record.methods[method]
    settings = dict(facts.settings)
    if cell["group"] in LABELLED:
        settings[LABELLED[cell["group"]]] = cell["label"]
    return Row(
        method,
        cell["data"],
        recipe_hash(cell["recipe"]),
        cell["speed_kmh"],
        cell["csi_snr_db"],
        cell["history"],
        cell["horizon"],
        facts.parameters_total,
        facts.parameters_trained,
        settings,
        {"benchmark": cell["seed"]},
        len(record.drop()),
        len(record.drop().unique()),
        group=group or cell["group"],
        label=cell.get("label", ""),
    )


def mean_rows(records: list[CellRecord], bar: str, timed: CellRecord | None = None) -> list[Row]:
    """One row per method over all headline cells: both means of NMSE, paired gains, sum-SE.

    Args:
        records: of the headline cells.
        bar: what gains are relative to.
        timed: the record that holds latency and FLOPs.
    """
    methods = [m for m in records[0].methods if all(m in record.methods for record in records)]
    drops, first, rows = [record.drop() for record in records], records[0], []
    for method in methods:
        row = Row(
            method,
            ", ".join(dict.fromkeys(record.cell["data"] for record in records)),
            recipe_hash([record.cell["recipe"] for record in records]),
            None,
            first.cell["csi_snr_db"],
            first.cell["history"],
            first.cell["horizon"],
            parameters_total=first.methods[method].parameters_total,
            parameters_trainable=first.methods[method].parameters_trained,
            seeds={"benchmark": first.cell["seed"]},
            num_links=sum(len(drop) for drop in drops),
            num_drops=sum(len(drop.unique()) for drop in drops),
            group="mean",
        )
        if first.find(method, "nmse"):
            add_mean_nmse(row, records, bar)
        if first.find(method, "se_single"):
            single = [[record.values(method, "se_single")] for record in records]
            row.figures["se_single"] = statistics.over_cells(statistics.mean_of_cells, single, drops, SE)
        _mean_sum_se(row, records, bar)
        row.figures |= timed_figures(timed, method) if timed else {}
        row.figures |= convention_figures(records, method)
        rows.append(row)
    return rows


def add_mean_nmse(row: Row, records: list[CellRecord], bar: str) -> None:
    """Both means of a row's NMSE over cells, and its paired gains."""
    drops = [record.drop() for record in records]
    own = [[record.values(row.method, "nmse")] for record in records]
    linear, cells = statistics.db_of_linear_mean, statistics.mean_of_cells_db
    row.figures["nmse_linear_db"] = statistics.over_cells(linear, own, drops, "dB")
    row.figures["nmse_cells_db"] = statistics.over_cells(cells, own, drops, "dB")
    for genie in GENIES:
        if genie != row.method and all(genie in record.methods for record in records):
            against = [[c[0], record.values(genie, "nmse")] for record, c in zip(records, own, strict=True)]
            statistic = statistics.difference(cells)
            row.figures[f"above_{genie}_cells_db"] = statistics.over_cells(statistic, against, drops, "dB")
    if row.method == bar or not all(bar in record.methods for record in records):
        return
    pairs = [[record.values(bar, "nmse"), columns[0]] for record, columns in zip(records, own, strict=True)]
    for gain, reference in [("", bar), *references(row.method, records)]:
        against = [[record.values(reference, "nmse"), c[0]] for record, c in zip(records, own, strict=True)]
        for name, statistic in (("linear", linear), ("cells", cells)):
            found = statistics.over_cells(statistics.difference(statistic), against, drops, "dB")
            row.figures[f"{gain}_gain_{name}_db".removeprefix("_")] = replace(found, note=reference)
    gains = [statistics.gain_db(pair[1], pair[0], drop) for pair, drop in zip(pairs, drops, strict=True)]
    words = [verdict(gain) for gain in gains]
    row.figures["cells"] = Figure(len(records), "1", "measured")
    row.figures["cells_better"] = Figure(words.count("better"), "1", "measured")
    row.figures["cells_worse"] = Figure(words.count("worse"), "1", "measured")
    row.figures["cells_judged"] = Figure(len(words) - words.count(NO_VERDICT), "1", "measured")


def references(method: str, records: list[CellRecord]) -> list[tuple[str, str]]:
    """What a learned method is compared with besides the baseline: ``(name of the gain, reference)``."""
    if not is_learned(method):
        return []
    name, variant, share = parts(method)
    pairs = [("best_classic", best_classic(records))]
    if variant in ("", "adapted"):
        pairs.append(("start", name + OFF))
    if variant == "adapted":
        pairs += [("adaptation", name), ("pretraining", f"{name}:random-start{share and '-' + share}")]
    return [(gain, ref) for gain, ref in pairs if ref and all(ref in record.methods for record in records)]


def best_classic(records: list[CellRecord]) -> str | None:
    """Of the classical methods that were run in every cell, the one with the lowest mean over cells of NMSE in dB."""
    methods = [m for m in names(kind="classical") if all(m in record.methods for record in records)]

    def mean_db(method: str) -> float:
        means = torch.stack([record.values(method, "nmse").mean() for record in records])
        return float(means.log10().mean())

    return min(methods, key=mean_db, default=None)


def _mean_sum_se(row: Row, records: list[CellRecord], bar: str) -> None:
    for users in records[0].cell["users"]:
        drops = [record.drop(group_of(users)) for record in records]
        own = [[_sum_se(record, row.method, users)] for record in records]
        row.figures[sum_se_name(users)] = statistics.over_cells(statistics.mean_of_cells, own, drops, SE)
        if row.method != bar and all(bar in record.methods for record in records):
            row.figures[sum_se_name(users, "gain")] = mean_sum_se_gain(records, row.method, bar, users)
        if "se_5pct" not in row.figures:
            every = [record.values(row.method, "user_rate", group_of(users)).flatten() for record in records]
            row.figures["se_5pct"] = Figure(float(five_percent_user_rate(torch.cat(every))), SE, "measured")


def mean_sum_se_gain(records: list[CellRecord], method: str, other: str, users: int) -> Figure:
    """Mean over cells of the paired difference in sum-SE; its note names the method compared with."""
    drops = [record.drop(group_of(users)) for record in records]
    pairs = [[_sum_se(record, name, users) for name in (method, other)] for record in records]
    found = statistics.over_cells(statistics.difference(statistics.mean_of_cells), pairs, drops, SE)
    return replace(found, note=other)


def age_rows(record: CellRecord, bar: str, *, csi_period: int, max_latency_ms: float = 10.0) -> list[Row]:
    """The latency-charged curve of each timed method, its own latency on it, and where it breaks even with ``bar``."""
    slot, per = record.cell["recipe"]["slot_duration"], group_of(record.cell["users"][0])
    latency = torch.linspace(0.0, max_latency_ms, round(10 * max_latency_ms) + 1, dtype=torch.float64)
    rows, at_p50 = [], {}
    for method in record.methods:
        steps = record.values(method, "sum_se_steps", per).mean(0)

        def charged(milliseconds: Tensor, steps: Tensor = steps) -> Tensor:
            return latency_charged_se(steps, milliseconds * 1e-3, slot_duration=slot, csi_period=csi_period)

        row = new_row(record, method, "age")
        curve, axis = charged(latency).tolist(), [round(x, 3) for x in latency.tolist()]
        row.figures["latency_charged_sum_se"] = Figure(curve, SE, "modelled", None, axis, "latency [ms]")
        timed = timed_figures(record, method)
        for name in ("latency_p50_ms", "latency_p99_ms"):
            if name in timed:
                row.figures[name] = timed[name]
                if (own := timed[name].number) <= max_latency_ms:
                    value = float(charged(torch.tensor(own, dtype=torch.float64)))
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


def csi_period_rows(records: list[CellRecord], *, pilot_symbols: int = 1, symbols_per_slot: int = 14) -> list[Row]:
    """Sum-SE and NMSE against CSI period, and sum-SE net of the pilots: ``(1 - pilot time / period)`` of it.

    One CSI occasion is taken to cost ``pilot_symbols`` of the ``symbols_per_slot`` OFDM symbols of a 0.5 ms slot.
    """
    records = sorted(records, key=lambda record: record.cell["recipe"]["slot_duration"])
    users = records[0].cell["users"][0]
    periods = [round(1e3 * record.cell["recipe"]["slot_duration"], 6) for record in records]
    pilot_ms = 0.5 * pilot_symbols / symbols_per_slot
    rows = []
    for method in records[0].methods:
        row = new_row(records[0], method)
        row.settings = {}
        figures = [
            statistics.mean_figure(_sum_se(record, method, users), record.drop(group_of(users)), SE)
            for record in records
        ]
        measured = statistics.join(figures, periods, "CSI period [ms]")
        gross = [figure.number for figure in figures]
        net = [value * max(0.0, 1 - pilot_ms / period) for value, period in zip(gross, periods, strict=True)]
        row.figures[sum_se_name(users)] = measured
        row.figures[sum_se_name(users, "net")] = Figure(net, SE, "modelled", None, periods, measured.axis_name)
        if all(record.find(method, "nmse") for record in records):
            errors = [statistics.db_figure(record.values(method, "nmse"), record.drop()) for record in records]
            row.figures["nmse_db"] = statistics.join(errors, periods, measured.axis_name)
        rows.append(row)
    return rows


def path_loss_rows(record: CellRecord, bar: str) -> list[Row]:
    """Sum-SE with true path loss, of the smallest groups."""
    rows, users = [], min(record.cell["users"], default=0)
    for method in record.methods:
        if (found := record.find(method, "path_loss_user_rate", group_of(users))) is None:
            continue
        row = new_row(record, method, "path_loss")
        drop = record.drop(group_of(users))
        row.figures[sum_se_name(users)] = statistics.mean_figure(found.values.sum(1), drop, SE)
        row.figures["se_5pct"] = Figure(float(five_percent_user_rate(found.values)), SE, "measured")
        rows.append(row)
    return rows


def _sum_se(record: CellRecord, method: str, users: int) -> Tensor:
    return record.values(method, "user_rate", group_of(users)).sum(1)
