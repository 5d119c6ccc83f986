"""One cell of a benchmark: links of one channel, speed and CSI SNR, judged under every method.

A cell's record holds values of every link and every group of users, so that intervals and means over cells can be
computed from records alone and a finished cell never runs twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.constants import THERMAL_NOISE_DBM_PER_HZ
from airlam.csi import to_beam_delay
from airlam.errors import StoreError
from airlam.evaluation.engine.cell import Cell, Contender, named_in_errors
from airlam.evaluation.engine.checks import check_prediction
from airlam.evaluation.engine.conventions import convention_series
from airlam.evaluation.engine.fingerprint import UNCACHED
from airlam.evaluation.engine.spectral_efficiency import Groups, group_rates, group_users, link_se
from airlam.evaluation.engine.timing import cell_figure, latency_series
from airlam.evaluation.results import CELLS, LINK, SE, CellRecord, MethodFacts, Series, group_of
from airlam.io import read_finished, write_json
from airlam.metrics import hold_after_horizon, measure_latency, nmse


class Record(Protocol):
    """What is kept in a file."""

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self: ...


R = TypeVar("R", bound=Record)


def run_cells(
    cells: list[Cell],
    run: Callable[[Cell], CellRecord],
    weights: Callable[[Cell], str],
    out: Path,
    cost: Callable[[Cell], float],
) -> list[CellRecord]:
    """The records of all cells, in order: those that stand in ``out/cells`` as they are, the others by ``run``.

    Args:
        weights: what a cell's record depends on besides the cell (see ``fingerprint.py``); part of its
            file's name. With ``"uncached"`` in it the cell is computed anew and its record is not kept.
        cost: rough share of a cell in the whole, for the time left.
    """
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from airlam.progress import ProgressLines

    columns = (
        TextColumn("{task.description:44}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    records = []
    with ProgressLines(*columns, transient=False) as progress:
        task = progress.add_task("", total=sum(cost(cell) for cell in cells))
        for cell in cells:
            progress.update(task, description=cell.progress)
            depends = weights(cell)
            path = None if UNCACHED in depends else out / CELLS / f"{cell.name}_{depends}.json"
            record = finished(path, CellRecord) if path is not None else None
            if record is None:
                with named_in_errors(cell):
                    record = run(cell)
                if path is not None:
                    write_json(path, record.plain())
            record.file = path.name if path is not None else ""
            records.append(record)
            progress.advance(task, cost(cell))
    return records


def finished(path: Path, kind: type[R]) -> R | None:
    """The record of finished work; ``None`` where there is none, or one of another version: the work is done again."""
    data = read_finished(path)
    try:
        return None if data is None else kind.from_plain(data)
    except StoreError:
        return None


def measure_cell(cell: Cell, links: LinkBatch, h_past: Tensor, contenders: list[Contender]) -> CellRecord:
    """The record of one cell.

    Args:
        cell: what it is.
        links: the test links, ``h [link, history + num_future, subcarrier, rx_ant, tx_ant]``.
        h_past: their measured history.
        contenders: the methods; "perfect" needs none, it is judged by itself.

    Returns:
        Of each method ``nmse`` and ``nmse_steps`` (not of "perfect"), ``se_single``, those of :func:`add_rates` for
        each size of groups, and where the cell says so ``path_loss_user_rate``, those of :func:`time_contender` and of
        :func:`~airlam.evaluation.engine.conventions.convention_series`.
    """
    truth = links.h[:, cell.history :]
    groups = {users: group_users(links.drop, users) for users in cell.users}
    record, slot_ms = new_record(cell, links, groups), 1e3 * cell.recipe["slot_duration"]
    horizons = [round(slot_ms * (slot + 1), 6) for slot in range(truth.shape[1])]
    for contender in contenders:
        start, name = time.perf_counter(), contender.name
        if name == "perfect":
            predicted = truth
        else:
            predicted = hold_after_horizon(predict_all(contender, h_past, cell.horizon), cell.num_future)
            steps = nmse(predicted, truth, reduction="none", per_step=True)
            record.add(
                Series(name, "nmse", "1", nmse(predicted, truth, reduction="none")),
                Series(name, "nmse_steps", "1", steps, axis=horizons, axis_name="horizon [ms]"),
            )
        record.add(*convention_series(cell, links, name, predicted))
        single = link_se(predicted, truth, cell.headline_snr_db, tone_step=cell.tone_step)
        record.add(Series(name, "se_single", SE, single))
        for found in groups.values():
            rates = {
                snr_db: group_rates(predicted, truth, found, snr_db, tone_step=cell.tone_step)
                for snr_db in cell.transmit_snr_db
            }
            add_rates(record, name, rates, cell.headline_snr_db)
        if cell.path_loss and groups:
            record.add(_with_path_loss(cell, links, name, predicted, truth, groups[min(groups)]))
        if cell.timed and contender.timed and name != "perfect":
            record.add(*time_contender(contender, h_past[:1].clone(), cell.horizon))
        seconds = round(time.perf_counter() - start, 3)
        record.methods[name] = MethodFacts(contender.settings, *contender.parameters, seconds)
    return record


def new_record(cell: Cell, links: LinkBatch, groups: Mapping[int, Groups]) -> CellRecord:
    """An empty record of links, and of groups of users by their size."""
    drops = {LINK: links.drop.tolist(), **{group_of(users): found.drop.tolist() for users, found in groups.items()}}
    return CellRecord(asdict(cell), drops)


def add_rates(record: CellRecord, method: str, rates: dict[float, Tensor], headline_snr_db: float) -> None:
    """Add what the rates of groups of users say.

    Args:
        rates: transmit SNR [dB] -> rate of each user at each slot ``[group, user, slot]`` [bit/s/Hz].
        headline_snr_db: one of these SNRs.

    Adds ``sum_se_vs_snr``, and of the headline's SNR ``user_rate`` (a point for each user) and ``sum_se_steps`` (a
    point for each slot).
    """
    chosen = rates[headline_snr_db]
    per, users, slots = group_of(chosen.shape[1]), *(list(map(float, range(size))) for size in chosen.shape[1:])
    over_snr = torch.stack([of_snr.sum(1).mean(-1) for of_snr in rates.values()], 1)
    record.add(
        Series(method, "sum_se_vs_snr", SE, over_snr, per, list(rates), "transmit SNR [dB]"),
        Series(method, "user_rate", SE, chosen.mean(-1), per, users, "user"),
        Series(method, "sum_se_steps", SE, chosen.sum(1), per, slots, "slot"),
    )


def predict_all(contender: Contender, h_past: Tensor, horizon: int) -> Tensor:
    """All links, a batch at a time."""
    from airlam.baselines.path_memory import remembered

    with torch.inference_mode(), remembered():
        parts = []
        for index in torch.arange(len(h_past)).split(contender.batch):
            past = h_past[index]  # a copy: a method that writes into its input cannot spoil the others'
            found = contender.predict(past, horizon, index)
            parts.append(check_prediction(contender.name, found, past, horizon))
    return torch.cat(parts)


def time_contender(contender: Contender, h_past: Tensor, horizon: int, repeats: int = 100) -> list[Series]:
    """Latency at batch 1 on one thread, and the FLOPs of matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    link = torch.zeros(1, dtype=torch.int64)
    found = measure_latency(lambda: contender.predict(h_past, horizon, link), warmup=5, repeats=repeats, threads=1)
    out = latency_series(contender.name, found)
    if contender.parameters[0]:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            contender.predict(h_past, horizon, link)
        out.append(cell_figure(contender.name, "flops", float(counter.get_total_flops()), "FLOP"))
    return out


def picture(links: LinkBatch, history: int, predicted: dict[str, Tensor], *, link: int = 0) -> dict[str, Any]:
    """One link's last predicted slot in the beam-delay domain, and the errors, in dB; receive antenna 0.

    Args:
        links: the test links.
        history: slots before the first predicted one.
        predicted: CSI by method ``[link, slot, subcarrier, rx_ant, tx_ant]``, all of one horizon.
        link: which one.
    """
    slot = next(iter(predicted.values())).shape[1] - 1

    def bins(h: Tensor) -> Tensor:
        return to_beam_delay(h[link, slot : slot + 1], links.port_shape)[0, :, 0]

    def db(x: Tensor) -> list[list[float]]:
        return (20 * x.abs().clamp(min=1e-6).log10()).round(decimals=1).tolist()

    true = bins(links.h[:, history:])
    seen = {name: bins(h) for name, h in predicted.items()}
    return {
        "true_db": db(true),
        "predicted_db": {name: db(x) for name, x in seen.items()},
        "error_db": {name: db(x - true) for name, x in seen.items()},
    }


def _with_path_loss(
    cell: Cell, links: LinkBatch, method: str, predicted: Tensor, truth: Tensor, groups: Groups
) -> Series:
    """Each user's rate with the gain of its link: path loss, shadowing, element gains."""
    mean_db = links.gain_db.mean()
    gain = 10 ** ((links.gain_db - mean_db) / 20)[:, None, None, None, None]
    snr_db = _path_loss_snr_db(cell, float(mean_db))
    rates = group_rates(gain * predicted, gain * truth, groups, snr_db, tone_step=cell.tone_step)
    per, users = group_of(rates.shape[1]), list(map(float, range(rates.shape[1])))
    return Series(method, "path_loss_user_rate", SE, rates.mean(-1), per, users, "user")


def _path_loss_snr_db(cell: Cell, mean_gain_db: float) -> float:
    """Transmit SNR [dB] per subcarrier of a user with the mean gain: 43 dBm spread over the band, 9 dB noise figure."""
    per_tone_dbm = 43.0 - 10 * torch.log10(torch.tensor(float(cell.recipe["num_subcarriers"]))).item()
    bandwidth_db = 10 * torch.log10(torch.tensor(float(cell.recipe["subcarrier_spacing"]))).item()
    return per_tone_dbm + mean_gain_db - (THERMAL_NOISE_DBM_PER_HZ + bandwidth_db + 9.0)
