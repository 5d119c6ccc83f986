"""Cells of the benchmark of beam management, and the record of one: scores of every method, judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from airlam.channels import load_channel
from airlam.csi import beam_power, dft_codebook, measure_beams, sweep_schedule
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beam_management.config import START, BeamManagementConfig
from airlam.evaluation.benchmarks.beam_management.judging import BEST, RATE, judge
from airlam.evaluation.benchmarks.beam_management.training import Tracks, Training
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.timing import latency_series
from airlam.evaluation.results import LINK, SE, CellRecord, MethodFacts, Series
from airlam.methods import get
from airlam.metrics import measure_latency

TRACKS_AT_ONCE = 512


def plan(config: BeamManagementConfig) -> list[Cell]:
    """Every cell, the headline first.

    Raises:
        RecipeError: a scenario without tracks, or more beams in a sweep than the codebook has.
    """
    cells, sizes, sweep = config.cells, config.sizes, config.sweep
    one, out = partial(_cell, config), []
    first, at = cells.scenarios[0], sweep.speed_kmh
    for data in cells.scenarios:
        for speed in cells.speeds_kmh:
            timed = data == first and speed == cells.speeds_kmh[0]
            out.append(one(data, speed, num_links=sizes.num_links, headline=True, timed=timed))
    for count in sorted({*sweep.beams, sizes.beams_per_sweep}):
        out.append(one(first, at, group="beams", num_pilots=count))
    for snr in sorted({*sweep.csi_snr_db, cells.csi_snr_db}):
        out.append(one(first, at, group="snr", csi_snr_db=snr))
    usual = 1e3 * load_channel(first).slot_duration
    for period in sorted({*sweep.periods_ms, usual}) if sweep.periods_ms else []:
        out.append(one(first, at, group="period", changes={"slot_duration": 1e-3 * period}))
    for label, keys in sweep.arrays.items():
        out.append(one(first, at, group="array", label=label, changes=keys))
    return out


def _cell(
    config: BeamManagementConfig, data: str, speed: float, *, changes: dict[str, Any] | None = None, **fields: Any
) -> Cell:
    """A cell of one scenario and speed. ``changes``: keys of its channel recipe; ``fields``: of the cell."""
    cells, sizes = config.cells, config.sizes
    recipe = load_channel(data).recipe
    if not recipe.get("tracks"):
        raise RecipeError(f"{data} has no tracks: beams would not move; name a recipe with tracks: true")
    recipe = {**recipe, "speed_kmh": speed, **cells.channel_overrides, **(changes or {})}
    recipe = load_channel({**recipe, "links_per_drop": sizes.links_per_drop}).recipe
    panel, count = recipe["bs_panel"], fields.setdefault("num_pilots", sizes.beams_per_sweep)
    beams = panel["rows"] * panel["columns"] * (1 + (panel["polarisation"] == "dual"))
    if not 1 <= count <= beams:
        raise RecipeError(f"sizes.beams_per_sweep is {count}, but {data} has a codebook of {beams} beams")
    values: dict[str, Any] = dict(
        group="cell",
        data=data,
        recipe=recipe,
        speed_kmh=float(speed),
        csi_snr_db=cells.csi_snr_db,
        num_links=sizes.side_links,
        num_tune=sizes.num_tune,
        history=sizes.history,
        horizon=sizes.horizon,
        num_future=sizes.horizon,
        methods=tuple(config.row_names),
        users=(),
        transmit_snr_db=(),
        headline_snr_db=cells.csi_snr_db,
        tone_step=1,
        seed=config.seed,
    )
    return Cell(**(values | fields))


def run_cell(cell: Cell, models: dict[str, Any], tracks: Tracks) -> CellRecord:
    """The record of one cell. ``models``: learned methods by name."""
    start = time.perf_counter()
    links, known = tracks.of(cell)
    codebook, noise = dft_codebook(links.port_shape), 10 ** (-cell.csi_snr_db / 10)
    generator = torch.Generator().manual_seed(cell.stream("sweeps"))
    measured = sweep_schedule(codebook.shape[1], cell.num_pilots, cell.history, generator)

    def parts(h: Tensor, of: Callable[..., Tensor], *args: Any) -> Tensor:
        return torch.cat([of(part, codebook, *args) for part in h.split(TRACKS_AT_ONCE)])

    seen = parts(links.h[:, : cell.history], measure_beams, noise, generator)
    future = parts(links.h[:, cell.history :], beam_power) / noise
    # every method measures its candidates with the same noise: that of a full sweep at that time
    again = parts(links.h[:, cell.history :], measure_beams, noise, generator)
    training = Training(
        measured,
        parts(known.h[:, : cell.history], measure_beams, noise, generator),
        parts(known.h[:, cell.history :], beam_power) / noise,
        known.drop,
    )
    record = CellRecord(asdict(cell), {LINK: links.drop.tolist()})
    record.extras["beams"] = codebook.shape[1]
    ahead = [round(1e3 * cell.recipe["slot_duration"] * (step + 1), 6) for step in range(future.shape[1])]
    axis: dict[str, Any] = {"axis": ahead, "axis_name": "time since the last sweep [ms]"}
    record.add(Series(BEST, RATE, SE, (1 + future.amax(-1)).log2(), **axis))
    for name in cell.methods:
        before = time.perf_counter()
        if name == "sweep":
            scores, facts = again, MethodFacts()
        else:
            method, settings, size = scorer(name, models, training, links.port_shape)
            scores, facts = torch.cat([method(part) for part in seen.split(64)]), MethodFacts(settings, size)
            if cell.timed:
                found = measure_latency(partial(method, seen[:1]), warmup=5, repeats=100, threads=1)
                record.add(*latency_series(name, found))
        for metric, values in judge(scores, future, again).items():
            record.add(Series(name, metric, SE if metric.startswith(RATE) else "1", values, **axis))
        facts.seconds = round(time.perf_counter() - before, 3)
        record.methods[name] = facts
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record


def scorer(
    name: str, models: dict[str, Any], training: Training, port_shape: Any
) -> tuple[Callable[[Tensor], Tensor], dict[str, Any], int]:
    """One method in one cell: ``power -> scores``, what was tuned, and its number of parameters."""
    measured, horizon = training.measured, training.future.shape[1]
    model = models.get(name.removesuffix(START))
    if model is not None:
        if name.endswith(START):
            return (lambda p: model.start.scores(p, measured, horizon)), {}, 0
        size = sum(p.numel() for p in model.parameters())
        return (lambda p: model.scores(p, measured, horizon, port_shape=port_shape)), {}, size
    method = get(name, "beam-tracker")
    if hasattr(method.load(), "fit"):
        made, settings = training.fit(name)
        return (lambda p: made.scores(p, measured, horizon)), settings, made.num_weights
    tried = [dict(zip(method.grid, values, strict=True)) for values in product(*method.grid.values())]
    options = [(method.build(**arguments), arguments) for arguments in tried]
    chosen, settings = min(options, key=lambda option: training.lost(option[0]))
    return (lambda p: chosen.scores(p, measured, horizon)), settings, 0
