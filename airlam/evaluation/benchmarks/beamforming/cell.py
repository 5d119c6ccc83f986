"""Cells of the benchmark of beamforming, and the record of one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from airlam.channels import load_channel
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beamforming.config import BeamformingConfig
from airlam.evaluation.benchmarks.beamforming.measure import measure_chains
from airlam.evaluation.benchmarks.beamforming.predicted import predicted_sources
from airlam.evaluation.benchmarks.beamforming.present import denoised_sources, pilot_sources
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.results import CellRecord

AGE_HORIZON = 16  # slots, of the curve over latency


@dataclass
class Learned:
    """What was trained: the predictor, precoders by name, and networks that read pilots by name."""

    model: Any
    precoders: dict[str, Any]
    networks: dict[str, Any]


def plan(config: BeamformingConfig) -> list[Cell]:
    """Every cell, in the order they run: the headline first.

    Raises:
        RecipeError: more pilots than antenna ports.
    """
    return _headline(config) + _swept(config) + _static(config) + _pilots(config)


def _headline(config: BeamformingConfig) -> list[Cell]:
    cells, out = config.cells, []
    for data in cells.scenarios:
        for speed in cells.speeds_kmh:
            timed = data == cells.scenarios[0] and speed == cells.speeds_kmh[0]
            links = config.sizes.num_links
            out.append(
                _cell(config, "cell", data, speed, cells.csi_snr_db, num_links=links, headline=True, timed=timed)
            )
    return out


def _swept(config: BeamformingConfig) -> list[Cell]:
    """Cells beside the headline of users that move."""
    cells, sweep = config.cells, config.sweep
    first, snr_db, out = cells.scenarios[0], cells.csi_snr_db, []
    at = sweep.speeds_kmh[0] if sweep.speeds_kmh else cells.speeds_kmh[0]
    one, side = config.rates.users[:1], partial(_cell, config, transmit_snr_db=(config.rates.headline_snr_db,))
    for snr in sweep.csi_snr_db:
        out.append(side("cell", first, at, snr))
    for speed in sweep.speeds_kmh:
        if speed not in cells.speeds_kmh:
            out.append(side("cell", first, speed, snr_db))
    for label, keys in sweep.arrays.items():
        for data in cells.scenarios:
            out.append(side("array", data, at, snr_db, changes=dict(keys), label=label))
    if sweep.users:
        out.append(side("users", first, at, snr_db, users=sweep.users, links_per_drop=sweep.users[-1]))
    for period in sweep.csi_periods_ms:
        fields: dict[str, Any] = dict(horizon=1, num_future=1, users=one, changes={"slot_duration": 1e-3 * period})
        out.append(side("csi_period", first, sweep.period_speed_kmh, snr_db, **fields))
    if sweep.age_speed_kmh is not None:
        slots = round(10e-3 / load_channel(first).slot_duration) + config.sizes.horizon - 1
        fields = dict(horizon=AGE_HORIZON, num_future=max(AGE_HORIZON, slots), users=one, timed=True)
        out.append(side("age", first, sweep.age_speed_kmh, snr_db, **fields))
    return out


def _static(config: BeamformingConfig) -> list[Cell]:
    small = (config.rates.headline_snr_db,)
    return [
        _cell(config, "static", data, 0.0, snr, history=2, horizon=1, num_future=1, transmit_snr_db=small)
        for data in (config.cells.scenarios if config.static.csi_snr_db else [])
        for snr in config.static.csi_snr_db
    ]


def _pilots(config: BeamformingConfig) -> list[Cell]:
    pilots, out = config.pilots, []
    if not pilots.model or not pilots.counts:
        return []
    for data in config.cells.scenarios:
        ports = load_channel({**load_channel(data).recipe, **config.cells.channel_overrides}).num_tx_ant
        if not all(1 <= count <= ports for count in pilots.counts):
            raise RecipeError(
                f"pilots.counts is {list(pilots.counts)}, but {data} has {ports} ports: give 1 to {ports}"
            )
        for snr in pilots.csi_snr_db:
            for count in pilots.counts:
                fields: dict[str, Any] = dict(history=1, horizon=1, num_future=1, num_pilots=count)
                fields |= dict(transmit_snr_db=(config.rates.headline_snr_db,), label=f"{count} pilots")
                out.append(_cell(config, "pilots", data, 0.0, snr, **fields))
    return out


def _cell(
    config: BeamformingConfig,
    group: str,
    data: str,
    speed: float,
    snr_db: float,
    *,
    changes: dict[str, Any] | None = None,
    links_per_drop: int | None = None,
    **fields: Any,
) -> Cell:
    """A cell of one scenario, speed and SNR. ``changes``: keys of its channel recipe; ``fields``: of the cell."""
    sizes, rates = config.sizes, config.rates
    drops = links_per_drop or sizes.links_per_drop
    overrides = {"speed_kmh": speed, **config.cells.channel_overrides, **(changes or {}), "links_per_drop": drops}
    tuned_on = sizes.num_train if group in ("static", "pilots") else sizes.num_tune
    values: dict[str, Any] = dict(
        group=group,
        data=data,
        recipe=load_channel({**load_channel(data).recipe, **overrides}).recipe,
        speed_kmh=float(speed),
        csi_snr_db=float(snr_db),
        num_links=_whole_drops(fields.pop("num_links", sizes.side_links), drops),
        num_tune=_whole_drops(tuned_on, drops),
        history=sizes.history,
        horizon=sizes.horizon,
        num_future=sizes.horizon,
        methods=tuple(chain.name for chain in config.chains_of(group)),
        users=tuple(rates.users),
        transmit_snr_db=tuple(rates.transmit_snr_db),
        headline_snr_db=rates.headline_snr_db,
        tone_step=rates.tone_step,
        seed=config.seed,
    )
    return Cell(**(values | fields))


def _whole_drops(links: int, links_per_drop: int) -> int:
    """The number of links rounded up to whole drops."""
    return -(-links // links_per_drop) * links_per_drop


def cost(cell: Cell) -> float:
    """Rough share of a cell in the whole run, for the estimate of the time left."""
    return cell.num_links * len(cell.transmit_snr_db) + 2 * cell.num_tune * (cell.group not in ("static", "pilots"))


def run_cell(cell: Cell, config: BeamformingConfig, learned: Learned) -> CellRecord:
    """The record of one cell: every chain on the same links and noise."""
    start = time.perf_counter()
    links, known = cell.links("test", cell.num_links), cell.links("tune", cell.num_tune)
    chains, models = config.chains_of(cell.group), {config.label: learned.model}
    names = list(dict.fromkeys(chain.source for chain in chains))
    if cell.group == "pilots":
        sources = pilot_sources(cell, links, known, learned.networks, names)
    else:
        h_past, seen = cell.observe(links.h, "test")[0], cell.observe(known.h, "tune")[0]
        if cell.group == "static":
            sources = denoised_sources(cell, links, h_past, (known, seen), models, names, learned.networks)
        else:
            sources = predicted_sources(cell, links, h_past, (known, seen), models, names)
    with torch.inference_mode():
        record = measure_chains(cell, links, sources, chains, learned.precoders, known)
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record
