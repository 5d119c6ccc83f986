"""Rows, tables, headline and notes of the report on measured channels."""

from __future__ import annotations

import math
from typing import Any

from airlam.evaluation.benchmarks.measured.cell import NOISE, PAIR
from airlam.evaluation.benchmarks.measured.config import VIEWS, MeasuredConfig
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.report.style import order, title
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.results import CellRecord, file_names
from airlam.evaluation.rows import Results, Row

NOTES = (
    "Measured: computed on recordings of real receivers in this run.",
    "The true channel is not known. NMSE is against the measured future, noise included: no method can come below the "
    "noise of its target.",
    "Noise across tones: what is new from packet to packet and not smooth over tones (fourth differences); noise that "
    "is smooth over tones too is missing in it. Noise across packets: half the power of the difference of neighbouring "
    "packets, motion and the receiver's offsets included. Both are the NMSE that this noise costs.",
    "A link is a window of consecutive packets here. Intervals: 95 %, bootstrap over blocks in time of one recording; "
    "they say how the recording varies, not how rooms or receivers do.",
    "Removing phase and timing looks at the packet itself, targets included: a receiver that predicts does not know "
    "the phase of its next packet.",
)


def make_results(
    config: MeasuredConfig, given: dict[str, Any], label: str, records: list[CellRecord], left_out: list[str]
) -> Results:
    """Rows, tables, headline and notes; ``given`` are the arguments as plain data, ``label`` is the learned method."""
    results = Results(config.title, "measured", config=given)
    results.cells = file_names(records)
    main = [record for record in records if record.cell["headline"]]
    results.rows = list(mean_rows(main, config.bar))
    for record in records:
        results.rows += rows_of_cell(record, config.bar)
    results.recipes = {f"{r.cell['data']}, {r.cell['label']}": r.cell["recipe"] for r in records}
    results.extras = {
        "focus": label,
        "bar": config.bar,
        "resampled": "blocks of packets",
        "noise": {record.cell["data"]: noise_of(record) for record in main},
        "tables": [recordings_table(main), less_noise_table(main), *views_tables(records)],
        "mean_text": f"Means over {len(main)} recordings, {VIEWS[config.views[0]].text}.",
        "compared": compared(config, main, left_out),
    }
    results.headline = headline(results, main, label, config.bar)
    results.notes = [*NOTES, *left_out]
    return results


def rows_of_cell(record: CellRecord, bar: str) -> list[Row]:
    """One row per method of a cell."""
    rows = cell_rows(record, bar)
    for row in rows:
        turned = record.values(row.method, "nmse_turned")
        row.figures["nmse_turned_db"] = statistics.db_figure(turned, record.drop())
    return rows


def noise_of(record: CellRecord) -> dict[str, Any]:
    """Both noise floors [dB] with their intervals, as plain data."""
    out: dict[str, Any] = {}
    for name in ("across_tones", "across_packets"):
        figure = statistics.db_figure(record.values(NOISE, name, PAIR), record.drop(PAIR))
        out[name] = {"db": figure.number, "ends": list(figure.ends)}
    return out


def headline(results: Results, main: list[CellRecord], label: str, bar: str) -> str:
    """Who wins against the mean of the history, and by how much."""
    rows = {row.method: row for row in results.select(group="mean")}
    mine = [row for row in results.select(group="cell", method=label) if row.label == main[0].cell["label"]]
    words = [verdict(row.figures["gain_db"]) for row in mine if "gain_db" in row.figures]
    best = min(rows.values(), key=lambda row: row.figures["nmse_cells_db"].number)
    gain = rows[label].figures.get("gain_cells_db") if label in rows else None
    if gain is None:
        return f"{best.method} has the lowest NMSE, {best.figures['nmse_cells_db'].number:.2f} dB in the mean."
    low, high = gain.ends
    return (
        f"On {len(main)} recordings of real receivers, {label} (as it is) lies {gain.number:+.2f} dB "
        f"({low:+.2f} to {high:+.2f}) from {bar} in the mean of dB; positive is better. It is better in "
        f"{words.count('better')}, worse in {words.count('worse')}, level in {words.count('level')}, and without a "
        f"verdict in {words.count('no verdict')}. The lowest mean NMSE has {best.method}: "
        f"{best.figures['nmse_cells_db'].number:.2f} dB."
    )


def recordings_table(main: list[CellRecord]) -> dict[str, Any]:
    """What was recorded, and how noisy it is."""
    columns = ["recording", "receiver", "packets x tones x rx x tx", "spacing", "windows that tune / score", "blocks"]
    columns += ["noise across tones [dB]", "noise across packets [dB]"]
    lines = []
    for record in main:
        extras, noise = record.extras, noise_of(record)
        lines.append(
            [
                title(record.cell["data"]),
                extras["receiver"],
                " x ".join(map(str, extras["packets"])),
                spacing_text(extras),
                f"{extras['tuned_on']} / {extras['judged']}",
                str(extras["blocks"]),
                *(_ends_text(noise[name]) for name in ("across_tones", "across_packets")),
            ]
        )
    text = " ".join(f"{title(record.cell['data'])}: {' '.join(record.extras['notes'])}" for record in main)
    return {"title": "Recordings", "columns": columns, "lines": lines, "text": text}


def spacing_text(extras: dict[str, Any]) -> str:
    """Times between packets in words."""
    if "spacing_s" not in extras:
        return "times missing"
    back = f", {extras['back']} times back" if extras["back"] else ""
    return f"{1e3 * extras['spacing_s']:.4g} ms, {'regular' if extras['regular'] else 'irregular'}{back}"


def less_noise_table(main: list[CellRecord]) -> dict[str, Any]:
    """NMSE of every method and recording, and what is left of it without the noise across tones."""
    columns = ["method", *(title(record.cell["data"]) for record in main)]
    lines = []
    for method in order([m for m in main[0].methods if all(m in record.methods for record in main)]):
        line = [method]
        for record in main:
            nmse = float(record.values(method, "nmse").mean())
            line.append(f"{_db(nmse):.2f} ({without_noise_text(nmse, noise_of(record)['across_tones'])})")
        lines.append(line)
    text = (
        f"{VIEWS[main[0].cell['label']].text.capitalize()}. In brackets after the noise across tones was taken off: an "
        "estimate of the NMSE against the true channel, too high where noise is smooth over tones. “At the noise”: the "
        "difference is within the interval of the noise."
    )
    return {"title": "NMSE [dB] against the measured future", "columns": columns, "lines": lines, "text": text}


def without_noise_text(nmse: float, noise: dict[str, Any]) -> str:
    """NMSE against the channel behind the noise [dB]: target power and error both less the noise.

    Args:
        nmse: against the measured future, linear. noise: of :func:`noise_of`.

    Example:
        >>> without_noise_text(0.02, {"db": -20.0, "ends": [-20.1, -19.9]})
        '-19.96'
    """
    if _db(nmse) <= noise["ends"][1]:
        return "at the noise"
    power = 10 ** (noise["db"] / 10)
    return f"{_db((nmse - power) / (1 - power)):.2f}"


def views_tables(records: list[CellRecord]) -> list[dict[str, Any]]:
    """For each recording: methods by views, NMSE and what a phase and a gain for each packet leave of it."""
    out = []
    for data in dict.fromkeys(record.cell["data"] for record in records):
        mine = [record for record in records if record.cell["data"] == data]
        if len(mine) < 2:
            continue
        common = [m for m in mine[0].methods if sum(m in record.methods for record in mine) > 1]
        lines = [
            [method, *(_view_text(record, method) if method in record.methods else "" for record in mine)]
            for method in order(common)
        ]
        columns = ["method", *(record.cell["label"] for record in mine)]
        text = "NMSE [dB]; in brackets with the best phase and gain for each predicted packet. " + "; ".join(
            f"{record.cell['label']}: {VIEWS[record.cell['label']].text}, {record.extras['judged']} windows"
            for record in mine
        )
        out.append({"title": f"{title(data)}: what is removed", "columns": columns, "lines": lines, "text": text + "."})
    return out


def _view_text(record: CellRecord, method: str) -> str:
    whole, turned = (float(record.values(method, name).mean()) for name in ("nmse", "nmse_turned"))
    return f"{_db(whole):.2f} ({_db(turned):.2f})"


def compared(config: MeasuredConfig, main: list[CellRecord], left_out: list[str]) -> list[str]:
    """What was compared."""
    sizes = config.sizes
    views = "; ".join(f"“{view}”: {VIEWS[view].text}" for view in config.views)
    irregular = [title(r.cell["data"]) for r in main if "spacing_s" in r.extras and not r.extras["regular"]]
    missing = [title(r.cell["data"]) for r in main if "spacing_s" not in r.extras]
    times = "Packets are taken in order, as if equally spaced, except in the view “regular grid”."
    times += f" Irregular: {', '.join(irregular)}." if irregular else ""
    times += f" Times missing: {', '.join(missing)}." if missing else ""
    return [
        f"From {sizes.history} received packets the next {sizes.horizon} are predicted; windows start every "
        f"{sizes.step} packets. Classical methods are tuned on the first half of each recording, all methods score on "
        f"the second, {sizes.guard} packets later. Learned methods were trained on simulated channels alone.",
        f"Views: {views}.",
        times,
        *left_out,
    ]


def _db(value: float) -> float:
    return 10 * math.log10(max(value, 1e-30))


def _ends_text(noise: dict[str, Any]) -> str:
    low, high = noise["ends"]
    return f"{noise['db']:.1f} ({low:.1f} to {high:.1f})"
