"""Rows, headline and notes of the report on beam management, from the records of its cells."""

from __future__ import annotations

from airlam.evaluation.benchmarks.beam_management.config import STRONGEST, BeamManagementConfig
from airlam.evaluation.benchmarks.beam_management.judging import (
    BEST,
    HIT,
    RATE,
    TOP,
    mean_gain,
    mean_value,
    share,
    strongest,
)
from airlam.evaluation.benchmarks.beam_management.tables import make_tables
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import new_row
from airlam.evaluation.engine.timing import timed_figures
from airlam.evaluation.report.style import look
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.results import SE, CellRecord, file_names
from airlam.evaluation.rows import Results, Row

NOTES = (
    "Measured: computed on simulated channels, or timed, in this run.",
    "Intervals: 95 %, bootstrap over drops; gains are paired: the same tracks, sweeps and noise.",
    "The best beam is that of the highest true power, mean over subcarriers; SE is that of the mean power.",
    "A full sweep measures every beam at the very time, and chooses by what it measures.",
    "Which classical method is the strongest is seen on the judged tracks themselves, for each figure of the "
    "headline: a choice that can only favour the classical side.",
)


def make_results(config: BeamManagementConfig, records: list[CellRecord]) -> Results:
    """Rows, tables, headline and notes."""
    results = Results(config.title, "beam_management", config=config.plain())
    results.cells = file_names(records)
    main = [record for record in records if record.cell["headline"]]
    against = strongest(main, "top1", config.classics) if config.baseline == STRONGEST else config.baseline
    for record in records:
        results.rows += [method_row(record, method, against) for method in record.methods]
    results.recipes = {record.cell["data"]: record.cell["recipe"] for record in records}
    results.extras = {
        "focus": config.label,
        "bar": against,
        "tables": make_tables(results, main, config.label, against),
        "compared": compared(config, records[0]),
    }
    results.headline = headline(config, main)
    results.notes = list(NOTES)
    return results


def method_row(record: CellRecord, method: str, against: str) -> Row:
    """One method in one cell: hits, rates over the best beam's, and paired gains over the method ``against``."""
    cell, beams, drop = record.cell, record.extras["beams"], record.drop()
    best = record.find(BEST, RATE)
    assert best is not None
    period_ms = 1e3 * cell["recipe"]["slot_duration"]
    row = new_row(record, method, cell["group"])
    row.settings |= {"beams": cell["num_pilots"], "label": cell["label"], "codebook": beams, "period_ms": period_ms}
    for k in TOP:
        hit, rate = (record.values(method, f"{what}_top{k}") for what in (HIT, RATE))
        row.figures[f"top{k}"] = statistics.mean_figure(hit.mean(1), drop, "1")
        row.figures[f"se_top{k}"] = statistics.mean_figure(rate.mean(1), drop, SE)
        row.figures[f"se_ratio_top{k}"] = share(rate.mean(1), best.values.mean(1), drop)
        # over a full sweep every time; candidates are measured once more where there are several
        swept = (cell["num_pilots"] + (k if k > 1 else 0)) if method != "sweep" else beams
        row.settings[f"measurements_saved_top{k}"] = round(1 - swept / beams, 4)
        if k == 1:
            row.figures["se_ratio_steps"] = statistics.on_axis(share(rate, best.values, drop), best)
        if method != against:
            other_hit, other_rate = (record.values(against, f"{what}_top{k}") for what in (HIT, RATE))
            row.figures[f"top{k}_gain"] = statistics.gain(hit.mean(1), other_hit.mean(1), drop, "1")
            row.figures[f"se_ratio_top{k}_gain"] = share((rate - other_rate).mean(1), best.values.mean(1), drop)
    row.figures |= timed_figures(record, method)
    return row


def headline(config: BeamManagementConfig, main: list[CellRecord]) -> str:
    """The learned method against the strongest classical one by each figure, means over the headline cells."""
    words = []
    for metric, what in (("top1", "top-1 accuracy"), ("se_ratio_top1", "SE over that of the best beam")):
        other = strongest(main, metric, config.classics) if config.classics else config.baseline
        own, theirs = (mean_value(main, metric, method).number for method in (config.focus, other))
        gain = mean_gain(main, metric, config.focus, other)
        low, high = gain.ends
        words.append(
            f"{what} {100 * own:.1f} % against {100 * theirs:.1f} % of {look(other).label} "
            f"({100 * gain.number:+.1f}, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}: {verdict(gain)})"
        )
    links = sum(len(record.drop()) for record in main)
    drops = sum(len(record.drop().unique()) for record in main)
    return (
        f"{look(config.focus).label} against the strongest classical method, {config.sizes.beams_per_sweep} of "
        f"{main[0].extras['beams']} beams measured in a sweep, mean of {len(main)} cells with {links} tracks "
        f"from {drops} drops: " + "; ".join(words) + "."
    )


def compared(config: BeamManagementConfig, record: CellRecord) -> list[str]:
    """What is measured, on which channels, and what the classical methods are tuned on."""
    recipe, sizes = record.cell["recipe"], config.sizes
    return [
        f"{sizes.history} sweeps, {1e3 * recipe['slot_duration']:g} ms apart, each of {sizes.beams_per_sweep} of "
        f"{record.extras['beams']} DFT beams at {config.cells.csi_snr_db:g} dB per port and subcarrier; beams are "
        f"named for each of the next {sizes.horizon} sweeps. Figures are means over them.",
        f"Users drive through spatially consistent cells at {recipe['carrier_frequency'] / 1e9:g} GHz: angles, "
        "blockage and fading change on the way. Nothing was trained on the drops that are judged.",
        f"Classical methods are tuned, and the two regressions trained, for each cell on {sizes.num_tune} tracks of "
        "other drops of the same scenario at the same speed, codebook and schedule of sweeps. The learned method "
        "is one network for all cells; its training set is named in its model card.",
    ]
