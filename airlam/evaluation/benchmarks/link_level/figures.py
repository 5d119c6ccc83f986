"""Figures of the link level benchmark: throughput and block error rate over transmit SNR."""

from __future__ import annotations

import numpy as np

from airlam.evaluation.report.drawing import Figure, over_transmit_snr, unique
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.rows import Results, bler_name


def throughput_vs_snr(results: Results) -> Figure | None:
    """Throughput over a coded link against transmit SNR; a panel for each speed."""
    return _link_panels(results, "throughput", "throughput [bit/s/Hz]")


def bler_vs_snr(results: Results) -> Figure | None:
    """Block error rate of one entry of the MCS table against transmit SNR: the one that tells most methods apart."""
    rows = results.select(group="link")
    entries = unique(mcs for row in rows for mcs in row.mcs_entries)
    if not entries:
        return None

    def spread(mcs: int) -> float:
        return float(np.std([figure.value for row in rows if (figure := row.bler(mcs))], axis=0).sum())

    mcs = max(entries, key=spread)
    return _link_panels(results, bler_name(mcs), f"block error rate, MCS {mcs}")


def _link_panels(results: Results, name: str, label: str) -> Figure | None:
    rows = results.select(group="link")
    if not rows:
        return None
    return over_transmit_snr(rows, Looks.of(results), name, label)


SECTIONS = (
    Section(
        "Over a coded link",
        (
            ReportFigure(
                throughput_vs_snr,
                "Bits of the transport blocks that are decoded without error, with the MCS chosen at each SNR.",
                rows_of("link"),
            ),
            ReportFigure(
                bler_vs_snr,
                "Block error rate with the entry of the MCS table at which the methods differ most.",
                rows_of("link"),
            ),
        ),
    ),
)
