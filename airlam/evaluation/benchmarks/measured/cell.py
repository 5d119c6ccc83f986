"""One recording in one view: windows, methods tuned on its first half, and the record of the second half."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.data.importers import Recording
from airlam.evaluation.benchmarks.measured.config import VIEWS, MeasuredConfig, MeasuredSizes
from airlam.evaluation.benchmarks.measured.noise import packet_noise, tone_noise
from airlam.evaluation.benchmarks.measured.recordings import Found
from airlam.evaluation.benchmarks.measured.windows import Windows, blocks_of, halves, is_regular, spacing, viewed
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, of_predictor, tuned, without_correction
from airlam.evaluation.engine.measure import predict_all
from airlam.evaluation.results import LINK, CellRecord, MethodFacts, Series
from airlam.interfaces import Predictor
from airlam.io import file_words
from airlam.methods import Method, get
from airlam.metrics import nmse

NOISE, PAIR = "noise", "pair of packets"  # as the records have them
BATCH = 256  # windows at once: these channels are small


@dataclass(frozen=True)
class MeasuredCell(Cell):
    """A recording, ``data``, in a view, ``label``; speed and SNR are not known."""

    @property
    def words(self) -> str:
        text = f"{self.data}_{'-'.join(self.label.split())}"
        return file_words(text)

    @property
    def where(self) -> str:
        return f"{self.data}, {self.label}"

    @property
    def progress(self) -> str:
        return self.where


def plan(config: MeasuredConfig, names: list[str], found: Found) -> list[Cell]:
    """A cell for each recording and view; the regular grid needs irregular times."""
    sizes = config.sizes
    cells: list[Cell] = []
    for view in config.views:
        headline = view == config.views[0]
        methods = tuple(name for name in names if headline or name not in config.headline_only)
        if VIEWS[view].grid:  # where packets are missing, models have no classical start: both rows would be the same
            methods = tuple(name for name in methods if not name.endswith(OFF))
        for data, recording in found.recordings.items():
            if VIEWS[view].grid and (recording.time_s is None or is_regular(recording.time_s)):
                continue
            recipe = {"file": found.hashes[data], "view": view, "sizes": asdict(sizes), "format": config.format}
            cells.append(
                MeasuredCell(
                    group="cell",
                    data=data,
                    recipe=recipe,
                    speed_kmh=0.0,
                    csi_snr_db=0.0,
                    num_links=0,
                    history=sizes.history,
                    horizon=sizes.horizon,
                    num_future=sizes.horizon,
                    methods=methods,
                    label=view,
                    headline=headline,
                )
            )
    return cells


def run_cell(
    cell: Cell, recording: Recording, sizes: MeasuredSizes, models: Mapping[str, Predictor | Method]
) -> CellRecord:
    """The record of one cell: NMSE of each window, and what a phase and a gain for each packet leave of it."""
    start, view = time.perf_counter(), VIEWS[cell.label]
    fit, test = halves(recording, view, sizes)
    first, last = len(recording.csi) // 2 + sizes.guard, len(recording.csi)
    facts = asdict(cell) | {"speed_kmh": None, "csi_snr_db": None}
    drops = {LINK: blocks_of(test.at, first, last, sizes).tolist()}
    if cell.headline:
        drops[PAIR] = blocks_of(torch.arange(first + 1, last), first, last, sizes).tolist()
    record = CellRecord(facts, drops)
    record.extras |= {"tuned_on": len(fit), "packets": list(recording.csi.shape), "receiver": recording.receiver}
    record.extras |= {"notes": list(recording.notes), "blocks": len(set(drops[LINK])), "judged": len(test)}
    if recording.time_s is not None:
        back = int((recording.time_s.diff() < 0).sum())
        record.extras |= {"spacing_s": spacing(recording.time_s), "regular": is_regular(recording.time_s), "back": back}
    if cell.headline:
        _add_noise(record, recording, sizes, first)
    for name in cell.methods:
        before = time.perf_counter()
        contender = contender_of(name, models, fit, test)
        with torch.inference_mode():
            predicted = predict_all(contender, test.past, sizes.horizon)
        steps = nmse(predicted, test.future, reduction="none", per_step=True)
        record.add(
            Series(name, "nmse", "1", nmse(predicted, test.future, reduction="none")),
            Series(name, "nmse_steps", "1", steps, axis=_ahead(sizes), axis_name="packets ahead"),
            Series(name, "nmse_turned", "1", turned_nmse(predicted, test.future)),
        )
        seconds = round(time.perf_counter() - before, 3)
        total, trained = contender.parameters
        record.methods[name] = MethodFacts(contender.settings, total, trained, seconds)
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record


def _ahead(sizes: MeasuredSizes) -> list[float]:
    return [float(packet) for packet in range(1, sizes.horizon + 1)]


def _add_noise(record: CellRecord, recording: Recording, sizes: MeasuredSizes, first: int) -> None:
    """Both estimates of the noise of the packets that score."""
    csi = viewed(recording, VIEWS["aligned"], sizes).csi[first:]
    record.add(
        Series(NOISE, "across_tones", "1", tone_noise(csi, recording.tones), PAIR),
        Series(NOISE, "across_packets", "1", packet_noise(csi), PAIR),
    )


def turned_nmse(predicted: Tensor, measured: Tensor) -> Tensor:
    """NMSE of each window after every predicted packet was turned and scaled to fit the measured one best: what is
    wrong with its shape over tones and antennas, whatever its phase and gain. In [0, 1]."""
    product = (predicted.conj() * measured).sum((2, 3, 4)).abs().square()
    power = predicted.abs().square().sum((2, 3, 4)) * measured.abs().square().sum((2, 3, 4))
    return (1 - product / power.clamp_min(1e-30)).clamp_min(0).mean(1).double()


def contender_of(name: str, models: Mapping[str, Predictor | Method], fit: Windows, test: Windows) -> Contender:
    """A method, tuned on ``fit`` where it has a grid, ready to predict ``test``."""
    model = models.get(name.removesuffix(OFF)) or get(name, "predictor")
    settings: dict[str, Any] = {}
    if not isinstance(model, Method):
        predictor = without_correction(model) if name.endswith(OFF) else model
    elif model.grid:
        predictor, settings = tuned(model, fit.past, fit.future, port_shape=None, context=_context(fit))
    else:
        predictor = model.build()
    contender = of_predictor(name, predictor, {}, None, settings, observed=test.observed)
    contender.batch = BATCH
    return contender


def _context(windows: Windows) -> dict[str, Any]:
    """What tuning tells a method: which packets were missing, where some were."""
    return {} if windows.observed is None else {"observed": windows.observed}
