"""Cells of the benchmark of CSI compression, and the record of one: what each report is worth."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import reverse_water_filling, rzf
from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure, subband_eigenvectors
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.csi_compression.config import GAUSSIAN, PERFECT, UNQUANTISED, CompressionConfig
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.spectral_efficiency import Groups, group_users
from airlam.evaluation.engine.timing import latency_series
from airlam.evaluation.results import LINK, SE, CellRecord, MethodFacts, Series, group_of
from airlam.interfaces import ArrayCodec
from airlam.methods import get
from airlam.metrics import measure_latency, sgcs, user_rates

AT_ONCE = 64  # links of a call
KNOWN = 256  # links of other drops that tell how good a codec's reports are


def plan(config: CompressionConfig) -> list[Cell]:
    """Every cell: the headline, other SNRs, old reports."""
    out, cells = [], config.cells
    one = partial(_cell, config)
    for data in cells.scenarios:
        for speed in cells.speeds_kmh:
            timed = data == cells.scenarios[0] and speed == cells.speeds_kmh[0]
            out.append(one(data, speed, headline=True, timed=timed))
            out += [one(data, speed, group="snr", csi_snr_db=float(snr)) for snr in config.csi_snr_db]
            out.append(one(data, speed, group="age", num_pilots=config.sizes.age_slots))
    return out


def _cell(config: CompressionConfig, data: str, speed: float, **fields: Any) -> Cell:
    """``fields``: of the cell; ``num_pilots`` is the age of its reports in slots."""
    cells, sizes = config.cells, config.sizes
    recipe = {**load_channel(data).recipe, "speed_kmh": speed, **cells.channel_overrides}
    recipe = load_channel({**recipe, "links_per_drop": sizes.links_per_drop}).recipe
    panel, user = recipe["bs_panel"], recipe["ut_panel"]
    if panel["polarisation"] != "dual":
        raise RecipeError(f"{data} has a panel of one polarisation, but the codebooks are for two; name another recipe")
    if user["rows"] * user["columns"] * (1 + (user["polarisation"] == "dual")) > 1:
        raise RecipeError(f"{data} has users with several antennas, but one is judged here; set ut_panel in overrides")
    values: dict[str, Any] = dict(
        group="cell",
        data=data,
        recipe=recipe,
        speed_kmh=float(speed),
        csi_snr_db=cells.csi_snr_db,
        num_links=sizes.num_links,
        num_tune=sizes.num_tune,
        history=1,
        horizon=sizes.horizon,
        num_future=sizes.horizon,
        methods=(*config.row_names, *(f"{GAUSSIAN}{bits}" for bits in config.gaussian_bits)),
        users=(sizes.users,),
        transmit_snr_db=(config.transmit_snr_db,),
        headline_snr_db=config.transmit_snr_db,
        tone_step=sizes.subband,
        seed=config.seed,
    )
    return Cell(**(values | fields))


class Scene:
    """Links of a cell: true CSI when the report is used, vectors that the user measured, vectors that were wanted."""

    def __init__(self, cell: Cell, purpose: str, num_links: int):
        links: LinkBatch = cell.links(purpose, num_links)
        generator = torch.Generator().manual_seed(cell.stream(purpose + " noise"))
        self.drop, self.port_shape, self.subband = links.drop, links.port_shape, cell.tone_step
        self.measured = measure(links.h[:, :1], cell.csi_snr_db, generator)[:, 0]  # [link, subcarrier, rx_ant, tx_ant]
        self.h = links.h[:, cell.num_pilots]
        self.seen, self.wanted = (subband_eigenvectors(h, self.subband) for h in (self.measured, self.h))

    @property
    def middle(self) -> Tensor:
        """Measured CSI at the middle of each subband, ``complex [link, subband tx_ant]``."""
        count = self.measured.shape[1]
        start = torch.arange(0, count, self.subband)
        return self.measured[:, (start + (start + self.subband).clamp(max=count)) // 2, 0].flatten(1)

    def quality(self, told: Tensor) -> float:
        """Share of the channel's power that lies along vectors ``[link, subband, tx_ant, 1]`` of the first links; mean
        over subcarriers, since the channel changes within a subband."""
        h = self.h[: len(told)].squeeze(-2)
        v = told.squeeze(-1).repeat_interleave(self.subband, 1)[:, : h.shape[1]]
        return float(((h * v).sum(-1).abs().square() / h.abs().square().sum(-1).clamp_min(1e-30)).mean())


def run_cell(cell: Cell) -> CellRecord:
    """The record of one cell."""
    start = time.perf_counter()
    test, tune = Scene(cell, "test", cell.num_links), Scene(cell, "tune", cell.num_tune)
    users = cell.users[0]
    groups = group_users(test.drop, users)
    record = CellRecord(asdict(cell), {LINK: test.drop.tolist(), group_of(users): groups.drop.tolist()})
    record.extras |= {"subbands": test.seen.shape[1], "ports": test.seen.shape[2]}
    for name in cell.methods:
        before = time.perf_counter()
        if name.startswith(GAUSSIAN):
            count = float(name.removeprefix(GAUSSIAN))
            told, quality, bits = (
                *gaussian_code(test, tune, count, cell.stream(name)),
                torch.full((cell.num_links,), count),
            )
        else:
            try:
                codec = get(name, "codec").build().for_array(test.port_shape, test.seen.shape[1], 1)
            except ValueError:  # the standard does not allow it for this array
                continue
            told, bits = coded(codec, test.seen)
            known, _ = coded(codec, tune.seen[:KNOWN])
            quality = tune.quality(known)
            if cell.timed:
                found = measure_latency(partial(codec.report, test.seen[:1]), warmup=2, repeats=30, threads=1)
                record.add(*latency_series(name, found))
        record.add(Series(name, "bits", "1", bits))
        _judge(record, name, told, quality, test, groups)
        record.methods[name] = MethodFacts(seconds=round(time.perf_counter() - before, 3))
    _judge(record, UNQUANTISED, test.seen, tune.quality(tune.seen), test, groups)
    record.methods[UNQUANTISED] = MethodFacts()
    rows = test.h.squeeze(-2)[groups.users].transpose(1, 2)  # [group, subcarrier, user, tx_ant]
    _add_rates(record, PERFECT, rows, None, test, groups)
    record.methods[PERFECT] = MethodFacts()
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record


def coded(codec: ArrayCodec, v: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors that reach the base station, and the bits ``[link]`` of their reports."""
    reports = [codec.report(part) for part in v.split(AT_ONCE)]
    told = torch.cat([codec.vectors(report) for report in reports])
    return told, torch.cat([codec.payload(report) for report in reports]).double()


def gaussian_code(test: Scene, tune: Scene, bits: float, seed: int) -> tuple[Tensor, float]:
    """Vectors from the CSI that an optimal code for Gaussian channels of the cell's covariance tells with ``bits`` (the
    forward channel of reverse water-filling), and their quality on the links that the covariance is of."""
    known, seen = (scene.middle for scene in (tune, test))
    variances, basis = torch.linalg.eigh(known.mT @ known.conj() / len(known))
    variances = variances.clamp_min(0)
    error = reverse_water_filling(variances, bits)
    kept = torch.where(variances > 0, 1 - error / variances.clamp_min(1e-30), 0.0)
    generator = torch.Generator().manual_seed(seed)

    def told(x: Tensor, subbands: int) -> Tensor:
        noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        y = kept * (x @ basis.conj()) + (kept * error).sqrt() * noise
        v = (y @ basis.mT).conj().unflatten(1, (subbands, -1)).unsqueeze(-1)
        return v / torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(1e-30)

    subbands = test.seen.shape[1]
    return told(seen, subbands), tune.quality(told(known[:KNOWN], subbands))


def _judge(record: CellRecord, name: str, told: Tensor, quality: float, scene: Scene, groups: Groups) -> None:
    """Add SGCS and sum-rates of vectors ``told [link, subband, tx_ant, 1]``.

    Precoding is RZF that knows of the mean error: a row is ``sqrt(quality ports)`` times the vector, and the power that
    is missing lies in any direction.
    """
    record.add(Series(name, "sgcs", "1", sgcs(told, scene.wanted).mean((1, 2))))
    ports = told.shape[2]
    rows = (quality * ports) ** 0.5 * told.squeeze(-1).conj()[groups.users].transpose(
        1, 2
    )  # [group, subband, user, ant]
    rows = rows.repeat_interleave(scene.subband, 1)[:, : scene.h.shape[1]]
    spread = (1 - quality) * torch.eye(ports, dtype=rows.dtype)
    _add_rates(record, name, rows, spread.expand(*rows.shape[:-1], ports, ports), scene, groups)


def _add_rates(
    record: CellRecord, name: str, rows: Tensor, spread: Tensor | None, scene: Scene, groups: Groups
) -> None:
    no = 10 ** (-record.cell["headline_snr_db"] / 10)
    w = rzf(rows, 1.0, no, error_covariance=spread)
    true = scene.h.squeeze(-2)[groups.users].transpose(1, 2)
    rates = user_rates(true, w, no).mean(1)  # [group, user]
    record.add(Series(name, "sum_se", SE, rates.sum(-1), group_of(rates.shape[1])))
