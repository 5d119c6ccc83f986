"""The tables of ``leaderboard.md``, made from the rows of a benchmark of channel prediction."""

from __future__ import annotations

from collections.abc import Sequence

from airlam.evaluation.engine.contenders import GENIES
from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report.baseline import bar_label, bar_of, bar_short
from airlam.evaluation.report.cells import CellNames, key_of
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import is_learned, order, title
from airlam.evaluation.report.table import Cell, Content, Table, figure_cell
from airlam.evaluation.report.verdicts import rests_on
from airlam.evaluation.rows import Results, Row, group_sizes, sum_se_name


def leaderboard_tables(results: Results) -> list[Table]:
    """Tables that the benchmark brings, means, data never seen, every cell, speeds, impairments, CSI periods."""
    looks, over = Looks.of(results), bar_short(results)
    means, held_out, cells = (results.select(group=group) for group in ("mean", "held_out", "cell"))
    impaired, odd, periods = (results.select(group=group) for group in ("impairments", "odd", "csi_period"))
    supported = (
        ("Each row", means, _means(means, looks, over)),
        ("Each row", held_out, _held_out(held_out, looks, over)),
        ("Each figure", cells, _cells(cells, looks, over)),
        ("", cells, _by_speed(cells, looks, bar_of(results), bar_label(results))),
        ("Each figure", impaired, _labelled(impaired, looks, "impairment", "Impaired histories: NMSE [dB]")),
        ("Each figure", odd, _labelled(odd, looks, "odd", "Other inputs and broken assumptions: NMSE [dB]")),
        ("Each figure", periods, _periods(periods, looks)),
    )
    tables = own_tables(results, texts=True)
    for subject, rows, found in supported:
        for table in found:
            table.support = rests_on(subject, rows, results) if subject else ""
        tables += found
    return tables


def own_tables(results: Results, *, texts: bool = False) -> list[Table]:
    """Tables that the benchmark brings as plain texts in ``extras["tables"]``, with or without their paragraphs."""
    return [
        _table(table["title"], table["columns"], table["lines"], table.get("text", "") if texts else "")
        for table in results.extras.get("tables", [])
    ]


def _name(method: str, looks: Looks) -> Cell:
    return Cell(looks[method].label, strong=is_learned(method) and ":" not in method)


def _lines(rows: list[Row], sizes: list[int], looks: Looks) -> list[list[Content]]:
    figures = {row.method: row.figures for row in rows}
    return [
        [
            _name(method, looks),
            figure_cell(figures[method].get("nmse_cells_db")),
            figure_cell(figures[method].get("gain_cells_db"), "+.2f"),
            figure_cell(figures[method].get("nmse_linear_db")),
            figure_cell(figures[method].get("gain_linear_db"), "+.2f"),
            *(figure_cell(figures[method].get(f"above_{genie}_cells_db")) for genie in GENIES),
            *(figure_cell(figures[method].get(sum_se_name(users))) for users in sizes),
        ]
        for method in order(list(figures))
    ]


def _columns(over: str, sizes: list[int]) -> list[str]:
    gain = f"gain over {over}"
    columns = ["method", "NMSE, mean of dB", gain, "NMSE, linear mean", gain]
    columns += ["above per-bin genie", "above cluster genie", "above genie"]  # as GENIES
    return [*columns, *(f"sum-SE, {users} users" for users in sizes)]


def _means(rows: list[Row], looks: Looks, over: str) -> list[Table]:
    if not rows:
        return []
    sizes, by_method = group_sizes(rows), {row.method: row for row in rows}
    lines = _lines(rows, sizes, looks)
    for line, method in zip(lines, order(list(by_method)), strict=True):
        size = by_method[method].parameters_total
        p50 = by_method[method].figures.get("latency_p50_ms")
        busy = (BUSY,) if is_busy(p50) else ()
        line += [None if p50 is None else Cell(figure=p50, small=busy), f"{size:,}" if size else None]
    columns = [*_columns(over, sizes), "latency p50 [ms]", "parameters"]
    return [_table("All cells of the headline", columns, lines)]


def _held_out(rows: list[Row], looks: Looks, over: str) -> list[Table]:
    """One table for each kind of data."""
    labels = list(dict.fromkeys(row.settings["held_out"] for row in rows))
    sizes = group_sizes(rows)
    return [
        _table(
            "Never seen in pretraining",
            _columns(over, sizes),
            _lines([row for row in rows if row.settings["held_out"] == label], sizes, looks),
            text=label,
        )
        for label in labels
    ]


def _cells(rows: list[Row], looks: Looks, over: str) -> list[Table]:
    methods = [m for m in order([row.method for row in rows]) if m != "perfect"]
    focus = [m for m in methods if is_learned(m) and ":" not in m]
    lines, names = [], CellNames(rows)
    variants = any(names.variant(row) for row in rows)
    for key, row in {key_of(row): row for row in rows}.items():
        here = {r.method: r.figures for r in rows if key_of(r) == key}
        lines.append(
            [title(key[0]), f"{key[1]:g}", f"{key[2]:g}", *([names.variant(row)] if variants else [])]
            + [figure_cell(here.get(m, {}).get("nmse_db"), ".1f") for m in methods]
            + [figure_cell(here.get(m, {}).get("gain_db"), "+.2f") for m in focus]
        )
    columns = ["data", "km/h", "CSI SNR [dB]", *(["cell"] if variants else []), *(looks[m].label for m in methods)]
    columns += [f"gain of {looks[m].label} over {over}" for m in focus]
    return [_table("Every cell: NMSE [dB]", columns, lines)] if lines else []


def _labelled(rows: list[Row], looks: Looks, key: str, heading: str) -> list[Table]:
    """A line for each label that the rows hold under ``key``, a column for each method."""
    methods = order([row.method for row in rows])
    lines = []
    for label in dict.fromkeys(row.settings[key] for row in rows):
        here = {row.method: row.figures for row in rows if row.settings[key] == label}
        lines.append([label, *(figure_cell(here.get(m, {}).get("nmse_db"), ".1f") for m in methods)])
    columns = ["impairment" if key == "impairment" else "input", *(looks[m].label for m in methods)]
    return [_table(heading, columns, lines)] if lines else []


def _by_speed(rows: list[Row], looks: Looks, bar: str, label: str) -> list[Table]:
    """Means over scenarios of the cells that every speed has, for each size of group."""
    figures = {(row.method, row.data, row.speed_kmh): row.figures for row in rows if row.csi_snr_db == _usual(rows)}
    methods, speeds = (
        order(list(dict.fromkeys(key[0] for key in figures))),
        sorted({key[2] for key in figures if key[2] is not None}),
    )
    lines, sizes = [], group_sizes(rows)
    if not sizes or not {bar, "perfect"} <= set(methods):
        return []
    for method in methods:
        line: list[Content] = [_name(method, looks)]
        for users in sizes:
            for speed in speeds:
                places = [key[1:] for key in figures if key[0] == method and key[2] == speed]

                def mean(m: str, places: list = places, name: str = sum_se_name(users)) -> float:
                    return sum(figures[(m, *place)][name].number for place in places) / len(places)

                value, low, high = mean(method), mean(bar), mean("perfect")
                share = f" ({100 * (value - low) / (high - low):.0f} %)" if is_learned(method) else ""
                line.append(f"{value:.2f}{share}")
        lines.append(line)
    columns = ["method", *(f"{users} users, {speed:g} km/h" for users in sizes for speed in speeds)]
    title = f"Sum-SE by speed, and the share of the gap that {label} leaves to perfect CSI that is closed"
    return [_table(title, columns, lines)]


def _usual(rows: list[Row]) -> float | None:
    """The CSI SNR of most cells: that of the headline."""
    values = [row.csi_snr_db for row in rows]
    return max(values, key=values.count, default=None)


def _periods(rows: list[Row], looks: Looks) -> list[Table]:
    """Sum spectral efficiency of the first size of groups, and NMSE, over the CSI period."""
    users = next(iter(group_sizes(rows)), None)
    made = [] if users is None else [_curves("CSI period: sum-SE [bit/s/Hz]", rows, sum_se_name(users), looks)]
    return [table for table in (*made, _curves("CSI period: NMSE [dB]", rows, "nmse_db", looks)) if table is not None]


def _curves(title: str, rows: list[Row], name: str, looks: Looks) -> Table | None:
    """A line for each method, a column for each CSI period."""
    figures = {row.method: row.figures[name] for row in rows if name in row.figures}
    if not figures:
        return None
    axis = next(iter(figures.values())).axis or []
    lines: list[list[Content]] = [
        [_name(m, looks), *(f"{v:.2f}" for v in value)]
        for m in order(list(figures))
        if isinstance(value := figures[m].value, list)
    ]
    return _table(title, ["method", *(f"{period:g} ms" for period in axis)], lines)


def _table(title: str, columns: list[str], lines: Sequence[Sequence[Content]], text: str = "") -> Table:
    return Table(title, columns, [("", line) for line in lines], text=text)
