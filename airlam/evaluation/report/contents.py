"""The tables of a report, made from the rows of its results."""

from __future__ import annotations

from dataclasses import replace

from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report.baseline import bar_short
from airlam.evaluation.report.cells import CellNames, key_of
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import BOUNDS, order, title
from airlam.evaluation.report.table import Cell, Content, Table, figure_cell
from airlam.evaluation.report.verdicts import rests_on
from airlam.evaluation.rows import Results, Row, group_sizes, sum_se_name

ALL_CELLS = ", all cells together"


def main_tables(results: Results) -> list[Table]:
    """The tables in front of the figures: means, data never seen, and those that the benchmark brings."""
    focus = results.extras.get("focus", "")
    found = [mean_table(results, focus), held_out_table(results, focus)]
    return [table for table in found if table is not None] + extra_tables(results)


def appendix(results: Results) -> list[Table]:
    """The table of all cells, where there are cells."""
    table = cell_table(results, results.extras.get("focus", ""))
    return [] if table is None else [table]


def mean_table(results: Results, focus: str) -> Table | None:
    """One line per method: the means over all cells of the headline."""
    rows = {row.method: row for row in results.select(group="mean")}
    if not rows:
        return None
    sizes = group_sizes(rows.values())
    figures: list[tuple[str, str, str]] = [
        ("NMSE [dB], linear mean", "nmse_linear_db", ".2f"),
        (f"gain over {bar_short(results)} [dB]", "gain_linear_db", "+.2f"),
        ("NMSE [dB], mean of cells", "nmse_cells_db", ".2f"),
        (f"gain over {bar_short(results)} [dB]", "gain_cells_db", "+.2f"),
        ("above per-bin genie [dB], mean of cells", "above_genie_per_bin_cells_db", ".2f"),
        ("above cluster genie [dB], mean of cells", "above_genie_clusters_cells_db", ".2f"),
        ("above genie [dB], mean of cells", "above_genie_lmmse_cells_db", ".2f"),
        *((f"sum-SE, {users} users [bit/s/Hz]", sum_se_name(users), ".2f") for users in sizes),
        ("SE of one user [bit/s/Hz]", "se_single", "user"),
        ("latency [ms]", "latency_p50_ms", "p99"),
    ]
    figures = [f for f in figures if any(f[1] in row.figures for row in rows.values())]
    table = Table(
        "All cells together",
        ["method", "parameters", *(name for name, _, _ in figures)],
        tags=["measured"],
        text=results.extras.get("mean_text", ""),
        note=_small_print(results, list(rows.values())),
        support=rests_on("Each row", rows.values(), results, ALL_CELLS),
    )
    looks = Looks.of(results)
    for method in order(list(rows)):
        row = rows[method]
        cells: list[Content] = [_name(looks, method), _size(row)]
        special = {"p99": _p50_p99, "user": _one_user}
        cells += [
            special[style](row) if style in special else figure_cell(row.figures.get(name), style)
            for _, name, style in figures
        ]
        table.lines.append((_kind(method, focus), cells))
    return table


def held_out_table(results: Results, focus: str) -> Table | None:
    """Data of kinds that pretraining never saw: a block of lines for each."""
    rows = results.select(group="held_out")
    if not rows:
        return None
    sizes, gain = group_sizes(rows), f"gain over {bar_short(results)} [dB]"
    table = Table(
        "Never seen in pretraining",
        [
            "data",
            "method",
            "NMSE [dB], linear mean",
            gain,
            "NMSE [dB], mean of cells",
            gain,
            *(f"sum-SE, {users} users [bit/s/Hz]" for users in sizes),
        ],
        keys=1,
        tags=["measured"],
        text="Means over speeds. Classical methods are tuned on each kind of data; the learned one is used as it is.",
        support=rests_on("Each row", rows, results, ALL_CELLS),
    )
    looks = Looks.of(results)
    for label in dict.fromkeys(row.settings["held_out"] for row in rows):
        mine = {row.method: row.figures for row in rows if row.settings["held_out"] == label}
        for place, method in enumerate(order(list(mine))):
            styles = (
                ("nmse_linear_db", ".2f"),
                ("gain_linear_db", "+.2f"),
                ("nmse_cells_db", ".2f"),
                ("gain_cells_db", "+.2f"),
                *((sum_se_name(users), ".2f") for users in sizes),
            )
            cells: list[Content] = [label if place == 0 else "", _name(looks, method)]
            cells += [figure_cell(mine[method].get(name), style) for name, style in styles]
            table.lines.append((_kind(method, focus), cells))
    return table


def extra_tables(results: Results) -> list[Table]:
    """Tables that a benchmark brings as plain texts: ``extras["tables"]``, each ``{title, columns, lines}`` and, where
    there is more to say, ``text``."""
    support = rests_on("Each figure", results.rows, results)
    return [
        Table(
            t["title"],
            t["columns"],
            [("", [str(cell) for cell in line]) for line in t["lines"]],
            text=t.get("text", ""),
            support=support,
            tags=["measured"],
        )
        for t in results.extras.get("tables", [])
    ]


def cell_table(results: Results, focus: str) -> Table | None:
    """Every cell and every method."""
    rows = results.select(group="cell")
    if not rows:
        return None
    names = CellNames(rows)
    variants = any(names.variant(row) for row in rows)
    figures = [
        ("NMSE [dB]", "nmse_db", ".2f"),
        (f"gain over {bar_short(results)} [dB]", "gain_db", "+.2f"),
        *((f"sum-SE, {users} users", sum_se_name(users), ".2f") for users in group_sizes(rows)),
        ("5 %-user SE", "se_5pct", ".2f"),
        ("single-user SE", "se_single", ".2f"),
    ]
    figures = [each for each in figures if any(each[1] in row.figures for row in rows)]
    table = Table(
        f"Every cell ({len(rows)} rows)",
        ["data", "km/h", "CSI SNR [dB]", *(["cell"] if variants else []), "method"]
        + [name for name, _, _ in figures]
        + ["links / drops", "tuned to"],
        keys=3 + variants,
    )
    looks = Looks.of(results)
    previous, places = None, order([row.method for row in rows])
    keys = list(dict.fromkeys(key_of(row) for row in rows))
    rows.sort(key=lambda row: (keys.index(key_of(row)), places.index(row.method)))
    for row in rows:
        first: list[Content] = [title(row.data), _number(row.speed_kmh), _number(row.csi_snr_db)]
        first += [names.variant(row)] if variants else []
        first = first if key_of(row) != previous else [""] * len(first)
        previous = key_of(row)
        cells = [*first, _name(looks, row.method)]
        cells += [figure_cell(row.figures.get(name), style) for _, name, style in figures]
        settings = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.settings.items()
        )
        cells += [f"{row.num_links} / {row.num_drops}", settings or None]
        table.lines.append((_kind(row.method, focus), cells))
    return table


def break_even_table(results: Results) -> Table | None:
    """At which latency each method is worth no more than the baseline at the baseline's own measured latency."""
    rows = [row for row in results.select(group="age") if "latency_charged_at_p50" in row.figures]
    if not rows:
        return None
    table = Table(
        "At each method's own latency",
        [
            "method",
            "latency p50 [ms]",
            "p99 [ms]",
            "sum-SE at its p50",
            "sum-SE at its p99",
            f"latency at which it is worth what {bar_short(results)} is at its p50 [ms]",
        ],
        tags=["modelled"],
        support=rests_on("Each point", results.select(group="age"), results),
    )
    looks = Looks.of(results)
    for row in sorted(rows, key=lambda row: order([r.method for r in rows]).index(row.method)):
        names = ("latency_p50_ms", "latency_p99_ms", "latency_charged_at_p50", "latency_charged_at_p99")
        cells: list[Content] = [_name(looks, row.method)]
        cells += [figure_cell(row.figures.get(name), ".3g" if name.endswith("_ms") else ".2f") for name in names]
        cells.append(row.settings.get("break_even", "") or None)
        table.lines.append((_kind(row.method, results.extras.get("focus", "")), cells))
    return table


def path_loss_table(results: Results) -> Table | None:
    """Users with their true path loss instead of equal mean power: a line per method, two columns per scenario."""
    rows = results.select(group="path_loss")
    if not rows:
        return None
    cells = list(dict.fromkeys((row.data, row.speed_kmh) for row in rows))
    users = group_sizes(rows)[0]
    columns = []
    for data, speed in cells:
        columns += [f"{title(data)}, {speed:g} km/h: sum-SE, {users} users", "5 %-user SE"]
    text, tags = results.extras.get("path_loss_text", ""), ["measured"]
    table = Table("With true path loss [bit/s/Hz]", ["method", *columns], text=text, tags=tags)
    table.support, looks = rests_on("Each figure", rows, results), Looks.of(results)
    for method in order([row.method for row in rows]):
        line: list[Content] = [_name(looks, method)]
        for cell in cells:
            here = [row.figures for row in rows if (row.data, row.speed_kmh) == cell and row.method == method]
            figures = here[0] if here else {}
            line += [figure_cell(figures.get(sum_se_name(users))), figure_cell(figures.get("se_5pct"))]
        table.lines.append((_kind(method, results.extras.get("focus", "")), line))
    return table


def _small_print(results: Results, rows: list[Row]) -> str:
    """What the figures of the table mean that are there."""
    there = {name for row in rows for name in row.figures}
    what = results.extras.get("latency_text", "median and 99th percentile of one prediction, batch 1, one thread")
    below = "; below it what 95 % of the users of the smallest groups exceed" if "se_5pct" in there else ""
    sentences = {
        "se_single": f"SE of one user: alone, with a matched beam{below}.",
        "latency_p50_ms": f"Latency: {what}.",
        "flops": "FLOPs are those of matrix products.",
    }
    known = any(figure.interval is not None for row in rows for figure in row.figures.values())
    words = ["Below each figure: its 95 % interval."] if known else []
    words += [text for name, text in sentences.items() if name in there]
    if any(is_busy(row.figures.get("latency_p50_ms")) for row in rows):
        words.append(
            f"“{BUSY}”: other programs held the core for more than a tenth of the timed calls, so an idle machine is "
            "faster."
        )
    return " ".join(words)


def _kind(method: str, focus: str) -> str:
    return "focus" if method == focus else "bound" if method in BOUNDS else ""


def _name(looks: Looks, method: str) -> Cell:
    return Cell(looks[method].label, color=looks[method].color)


def _size(row: Row) -> Cell | None:
    """Number of parameters, how many of them are trained, and the operations of one prediction."""
    small = [f"{row.parameters_trainable:,} trained"] if row.parameters_trainable else []
    small += [f"{row.figures['flops'].number / 1e6:.0f} MFLOP"] if "flops" in row.figures else []
    if not row.parameters_total and not small:
        return None
    total = row.parameters_total
    return Cell(f"{total:,}" if total else "–", number=total or None, small=tuple(small))


def _one_user(row: Row) -> Cell | None:
    if "se_single" not in row.figures:
        return None
    five = row.figures.get("se_5pct")
    small = () if five is None else (f"5 % user {five.number:.2f}",)
    return Cell(figure=replace(row.figures["se_single"], interval=None), small=small)


def _p50_p99(row: Row) -> Cell | None:
    if "latency_p50_ms" not in row.figures:
        return None
    p50, p99 = row.figures["latency_p50_ms"], row.figures["latency_p99_ms"]
    small = (f"p99 {p99.value:.3g}", *([BUSY] if is_busy(p50) else []))
    return Cell(figure=replace(p50, interval=None), style=".3g", small=small)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"
