"""Rows, tables and texts of the report on coded links, from the records of its cells."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.link_level.cell import CHOOSING
from airlam.evaluation.benchmarks.link_level.config import LinkLevelConfig
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import new_row
from airlam.evaluation.report.style import look, order
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.results import CellRecord, file_names, group_of
from airlam.evaluation.rows import Figure, Results, Row, bler_name


def make_results(config: LinkLevelConfig, records: list[CellRecord]) -> Results:
    """Rows, tables, headline and notes."""
    results = Results(config.title, "link_level", config=config.plain())
    results.cells = file_names(records)
    for record in records:
        results.rows += rows_of(record, config)
    results.recipes = {record.cell["data"]: record.cell["recipe"] for record in records}
    results.extras = {
        "focus": config.focus,
        "bar": config.baseline,
        "tables": tables(results.rows, config),
        "compared": compared(config),
    }
    results.headline = headline(results.rows, config)
    results.notes = [
        "Measured: every block was encoded, sent among the others, and decoded.",
        "Receivers know the channel of their own beam and the power that disturbs it.",
        f"Which entry of the MCS table a chain sends with is chosen on {config.sizes.num_choose} links of other drops, "
        "at each SNR and speed; curves of block error rate are measured on these.",
        "Intervals: 95 %, bootstrap over drops; gains are paired: the same links and CSI noise, and with the same "
        "entry of the table the same bits and noise.",
    ]
    return results


def rows_of(record: CellRecord, config: LinkLevelConfig) -> list[Row]:
    """One row for each chain of a cell: throughput, its gain over the baseline, block error rates."""
    per, rows = group_of(config.link.users), []
    for method in record.methods:
        row = new_row(record, method, "link")
        found = record.find(method, "throughput", per)
        assert found is not None
        row.figures["throughput"] = statistics.figure_of(record, found)
        if method != config.baseline:
            other = record.values(config.baseline, "throughput", per)
            gain = statistics.gain(found.values, other, record.drop(per), found.unit)
            row.figures["throughput_gain"] = statistics.on_axis(gain, found)
        rates = [record.find(method, bler_name(mcs), CHOOSING) for mcs in config.link.mcs]
        row.figures |= {rate.metric: statistics.figure_of(record, rate) for rate in rates if rate is not None}
        rows.append(row)
    return rows


def tables(rows: list[Row], config: LinkLevelConfig) -> list[dict[str, Any]]:
    """One table of throughput over SNR for each speed."""
    out = []
    for speed in config.cells.speeds_kmh:
        here = {row.method: row for row in rows if row.speed_kmh == speed}
        lines = []
        for method in order(list(here)):
            mcs = here[method].settings["mcs"]
            texts = []
            for place, (value, gain) in enumerate(_points(here[method])):
                text = f"{value:.2f} (MCS {mcs[place]})"
                if gain is not None:
                    text += f" {gain.number:+.2f} ({gain.ends[0]:+.2f} to {gain.ends[1]:+.2f})"
                texts.append(text)
            lines.append([look(method).label, *texts])
        columns = ["method", *(f"{snr:g} dB" for snr in config.link.transmit_snr_db)]
        title = f"{speed:g} km/h: throughput of {config.link.users} users [bit/s/Hz]"
        row = next(iter(here.values()))
        text = (
            f"With the entry of MCS table {config.link.mcs_table} chosen on other drops at each SNR; gain over "
            f"{look(config.baseline).label}, with 95 % interval. {row.num_links} links from {row.num_drops} drops."
        )
        out.append({"title": title, "columns": columns, "lines": lines, "text": text})
    return out


def headline(rows: list[Row], config: LinkLevelConfig) -> str:
    """The learned chain against the baseline at every SNR."""
    words = []
    for speed in config.cells.speeds_kmh:
        here = {row.method: row for row in rows if row.speed_kmh == speed}
        if config.focus not in here:
            continue
        texts = []
        own, other = (_points(here[method]) for method in (config.focus, config.baseline))
        for snr, (value, gain), (reference, _) in zip(config.link.transmit_snr_db, own, other, strict=True):
            text = f"{snr:g} dB {value:.2f} against {reference:.2f} bit/s/Hz"
            if gain is not None:
                low, high = gain.ends
                text += f" ({gain.number:+.2f}, {low:+.2f} to {high:+.2f}: {verdict(gain)})"
            texts.append(text)
        words.append(f"{speed:g} km/h: " + ", ".join(texts))
    start = f"Throughput of {config.link.users} users, {config.focus} against {config.baseline}, gains with 95 % "
    return f"{start}intervals. " + ("; ".join(words) + "." if words else "Not run.")


def compared(config: LinkLevelConfig) -> list[str]:
    """What is sent, to whom, and on which CSI."""
    link, sizes = config.link, config.sizes
    return [
        f"{link.users} users of one drop of {config.scenario}, CSI SNR {config.cells.csi_snr_db:g} dB, {sizes.horizon} "
        f"slots served from {sizes.history} measured ones. One transport block for each user and slot, on every "
        f"{link.tone_step}. subcarrier and {link.num_symbols} OFDM symbols, with LDPC and QAM of TS 38.212 and 38.211.",
        "Users are scaled to unit mean channel gain. Nothing is sent again: a lost block counts as nothing.",
    ]


def _points(row: Row) -> list[tuple[float, Figure | None]]:
    """Throughput at each SNR, and its gain over the baseline where it has an interval."""
    curve, gain = row.figures["throughput"], row.figures.get("throughput_gain")
    assert isinstance(curve.value, list)
    if gain is None or not isinstance(gain.value, list) or not isinstance(gain.interval, list):
        return [(value, None) for value in curve.value]
    return [
        (value, Figure(difference, gain.unit, gain.kind, interval, groups=gain.groups))
        for value, difference, interval in zip(curve.value, gain.value, gain.interval, strict=True)
    ]
