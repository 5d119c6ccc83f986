"""What the demo reports: rows and explanations for the page, and a table for the terminal."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.demo.arguments import DemoArguments
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report.notes import NOTES
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import order, short
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Results, group_sizes, sum_se_name


def results_of(records: list[CellRecord], demo: DemoArguments) -> Results:
    """Rows, headline and notes."""
    focus = f"{demo.label}:adapted"
    results = Results(f"{demo.label}, adapted to one site", "channel_prediction", config=demo.plain())
    timed = next(record for record in records if record.cell["timed"])
    results.rows += mean_rows(records, "ar", timed)
    for record in records:
        results.rows += cell_rows(record, "ar")
    results.recipes = {records[0].cell["data"]: records[0].cell["recipe"]}
    results.extras = {"resampled": "users"}
    results.headline = headline(results, focus)
    speeds = ", ".join(f"{record.cell['speed_kmh']:g}" for record in records)
    results.extras = {
        "focus": focus,
        "bar": "ar",
        "resampled": "users",
        "banner": demo.banner(),
        "transmit_snr_db": demo.transmit_snr_db,
        "details": details(results, focus),
        "compared": [
            f"One site made by Sionna: {demo.num_adapt + demo.num_held_out} users of one {demo.channel} base "
            f"station in one spatially consistent snapshot, {demo.speed_kmh[0]:g} to {demo.speed_kmh[-1]:g} "
            f"km/h. The model is adapted on {demo.num_adapt} of them; all methods are evaluated on the other "
            f"{demo.num_held_out}, in {demo.num_speed_classes} classes of speed with means of {speeds} km/h.",
            f"{demo.history} measured CSI occasions at {demo.csi_snr_db:g} dB are given, the next {demo.horizon} "
            f"are predicted. Adaptation: LoRA of rank {demo.lora_rank}, {demo.steps} steps of {demo.batch_size} "
            "links. “Random start” is a network of the same shape with random weights, all of which are trained "
            "on the same batches for the same steps: the difference to it is what pretraining is worth. "
            f"Classical methods are tuned in each class on {demo.num_tune} adaptation users of like speed.",
        ],
        "mean_text": f"Means over {len(records)} classes of speed. Spectral efficiency at "
        f"{demo.transmit_snr_db:g} dB transmit SNR, groups of {demo.group_size} users.",
        "picture": next(record.extras["picture"] for record in records if "picture" in record.extras),
    }
    results.notes = [
        NOTES["tags"],
        NOTES["nmse"],
        "Intervals: 95 %, bootstrap over the users (or groups) of this one site: they hold for other users of this "
        "site, and say nothing about other sites. Differences are paired, on the same users and noise.",
        NOTES["sum_se"],
        NOTES["single"],
        NOTES["latency"],
    ]
    return results


def print_table(console: Any, results: Results) -> None:
    """Print the means of every method, as a table of fixed columns."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows = {row.method: row for row in results.select(group="mean")}
    sum_se = sum_se_name(group_sizes(rows.values())[0])
    table = Table(title=escape(results.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for name in ("NMSE", "gain", "95 % interval", "sum-SE", "p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in order(list(rows)):
        figures = rows[method].figures
        gain, p50 = figures.get("gain_cells_db"), figures.get("latency_p50_ms")
        cells = [
            f"{figures['nmse_cells_db'].number:.2f}" if "nmse_cells_db" in figures else "",
            f"{gain.number:+.2f}" if gain else "",
            f"{gain.ends[0]:+.2f} to {gain.ends[1]:+.2f}" if gain and gain.interval else "",
            f"{figures[sum_se].number:.2f}",
            f"{p50.number:.2f}{'*' if is_busy(p50) else ''}" if p50 else "",
        ]
        table.add_row(escape(short(method)), *cells, style="bold" if method == results.extras["focus"] else "")
    console.print(table)
    units = "NMSE and its gain over the tuned AR [dB], sum-SE [bit/s/Hz], median latency (p50) [ms]"
    console.print(units, style="dim", markup=False, highlight=False)
    if any(is_busy(row.figures.get("latency_p50_ms")) for row in rows.values()):
        text = f"*{BUSY}: other programs used the processor during the timing; an idle machine is faster"
        console.print(text, style="dim", markup=False, highlight=False)
