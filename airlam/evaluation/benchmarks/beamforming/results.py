"""Rows, texts and notes of the report on beamforming, from the records of its cells."""

from __future__ import annotations

from dataclasses import replace

from airlam.evaluation.benchmarks.beamforming.config import BeamformingConfig
from airlam.evaluation.benchmarks.beamforming.gap import FULL, add_best_classic_gains, best_classical, headline
from airlam.evaluation.benchmarks.beamforming.tables import PILOT_BASELINE, make_tables
from airlam.evaluation.engine.summarise import age_rows, cell_rows, csi_period_rows, mean_rows
from airlam.evaluation.report.style import look
from airlam.evaluation.results import CellRecord, file_names
from airlam.evaluation.rows import Results, Row

NOTES = (
    "Measured: computed on simulated channels, or timed, in this run. Modelled: derived from measured figures by the "
    "formula in the caption.",
    "Intervals: 95 %, bootstrap over drops; differences are paired, on the same links and noise.",
    "The perfect-CSI rows know the true channel of the slot they serve. Dirty paper coding is the sum capacity.",
    "Robust precoders and the learned one are told the covariance of the CSI's error: a learned source says it for "
    "each user, slot and tone; for a classical one it is the mean over the validation drops. A tuned precoder may also "
    "take, for each user, a multiple of the covariance of its own history plus white noise, fitted on these drops.",
    f"Shares of the gap count to {FULL}.",
    "WMMSE: rates after 100 iterations (converged to about 0.1 bit/s/Hz), latency of 10.",
    "Latency: predicting one user (with the covariance where it is used) and precoding one slot of a group on the "
    "tones of the table, on one thread.",
)


def make_results(config: BeamformingConfig, records: list[CellRecord]) -> Results:
    """Rows, tables, headline and notes from the records of all cells."""
    main = [record for record in _of(records, "cell") if record.cell["headline"]]
    results = Results(config.title, "beamforming", config=config.plain())
    results.cells = file_names(records)
    results.rows = moving_rows(config, records, main) + static_rows(config, records) + pilot_rows(records)
    for row in results.rows:  # a capacity says nothing of single users
        if row.method.endswith("+ dpc"):
            row.figures.pop("se_5pct", None)
    results.recipes = {record.cell["data"]: record.cell["recipe"] for record in main}
    results.headline = headline(results, config)
    results.extras = {
        "focus": config.focus,
        "bar": config.baseline,
        "tables": make_tables(results, config),
        "compared": compared(config, main),
        "latency_text": "median of predicting one user and precoding one slot of a group, one CPU thread",
        "mean_text": f"Means over {len(main)} cells at {config.cells.csi_snr_db:g} dB CSI SNR and "
        f"{config.rates.headline_snr_db:g} dB transmit SNR.",
    }
    results.notes = list(NOTES)
    return results


def moving_rows(config: BeamformingConfig, records: list[CellRecord], main: list[CellRecord]) -> list[Row]:
    """Means over the headline cells, then every cell of users that move. ``main``: records of the headline."""
    timed = next((record for record in main if record.cell["timed"]), None)
    rows = mean_rows(main, config.baseline, timed)
    for row in rows:
        add_best_classic_gains(row, main)
    for record in _of(records, "cell"):
        rows += cell_rows(record, config.baseline)
    for label in config.sweep.arrays:
        mine = [record for record in _of(records, "array") if record.cell["label"] == label]
        for row in mean_rows(mine, config.baseline):
            rows.append(replace(row, group="array", settings={"array": label}))
    for record in _of(records, "users"):
        rows += cell_rows(record, config.baseline)
    if periods := _of(records, "csi_period"):
        rows += csi_period_rows(periods)
    for record in _of(records, "age"):
        rows += age_rows(record, config.baseline, csi_period=config.sizes.horizon)
    return rows


def static_rows(config: BeamformingConfig, records: list[CellRecord]) -> list[Row]:
    """Means over scenarios of users that stand still, with gains over the strongest classical chain."""
    rows = []
    for snr in config.static.csi_snr_db:
        mine = [record for record in _of(records, "static") if record.cell["csi_snr_db"] == snr]
        best = best_classical(mine) or config.static_chains[0].name
        rows += [replace(row, group="static", settings={"bar": best}) for row in mean_rows(mine, best)]
    return rows


def pilot_rows(records: list[CellRecord]) -> list[Row]:
    """Means over scenarios of users that send pilots, for each SNR and number of pilots."""
    rows, cells = [], _of(records, "pilots")
    for where in dict.fromkeys((r.cell["csi_snr_db"], r.cell["num_pilots"]) for r in cells):
        mine = [r for r in cells if (r.cell["csi_snr_db"], r.cell["num_pilots"]) == where]
        for row in mean_rows(mine, PILOT_BASELINE):
            rows.append(replace(row, group="pilots", settings={"pilots": where[1]}))
    return rows


def _of(records: list[CellRecord], group: str) -> list[CellRecord]:
    return [record for record in records if record.cell["group"] == group]


def compared(config: BeamformingConfig, main: list[CellRecord]) -> list[str]:
    """What is compared, on which links, and what the baseline is."""
    cell, cells = main[0].cell, config.cells
    recipe, links, drops = cell["recipe"], len(main[0].drop()), len(main[0].drop().unique())
    return [
        f"From {config.sizes.history} measured CSI occasions, {1e3 * recipe['slot_duration']:g} ms apart, the next "
        f"{config.sizes.horizon} slots are predicted and precoded for; rates are those on the true channel. CSI SNR "
        f"{cells.csi_snr_db:g} dB, transmit SNR {config.rates.headline_snr_db:g} dB, users scaled to unit mean gain.",
        f"{len(main)} cells: {', '.join(cells.scenarios)} at {', '.join(f'{v:g}' for v in cells.speeds_kmh)} km/h, "
        f"{links} links from {drops} drops in each. Every chain sees the same links and the same noise. Classical "
        f"predictors and precoders are tuned in each cell, on {cell['num_tune']} links of other drops.",
        f"The learned chain is {config.focus}; the baseline is {look(config.baseline).label}: of regularised zero "
        "forcing and WMMSE with any loading, and their robust forms with the covariance of the CSI's errors (one for "
        "all users or one for each), the best on the validation drops, chosen for each number of users and each SNR.",
    ]
