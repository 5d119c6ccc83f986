"""One cell of a benchmark: links of one channel, speed and CSI SNR, judged under every method.

A cell's record is plain data, per link and per group of users, so that intervals and means over cells can be computed
from records alone and a finished cell never runs twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.constants import THERMAL_NOISE_DBM_PER_HZ
from airlam.csi import to_beam_delay
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.checks import check_prediction
from airlam.evaluation.engine.fingerprint import UNCACHED
from airlam.evaluation.engine.spectral_efficiency import group_rates, group_users, link_se
from airlam.evaluation.engine.timing import latency_fields
from airlam.io import read_finished, write_json
from airlam.metrics import hold_after_horizon, measure_latency, nmse


def run_cells(
    cells: list[Cell],
    run: Callable[[Cell], dict[str, Any]],
    weights: Callable[[Cell], str],
    out: Path,
    cost: Callable[[Cell], float],
) -> list[dict[str, Any]]:
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
            progress.update(task, description=f"{cell.group} {cell.data} {cell.speed_kmh:g} km/h {cell.label}")
            depends = weights(cell)
            path = None if UNCACHED in depends else out / "cells" / f"{cell.name}_{depends}.json"
            record = read_finished(path) if path is not None else None
            if record is None:
                record = run(cell)
                if path is not None:
                    write_json(path, record)
            records.append(record)
            progress.advance(task, cost(cell))
    return records


def measure_cell(cell: Cell, links: LinkBatch, h_past: Tensor, contenders: list[Contender]) -> dict[str, Any]:
    """The record of one cell.

    Args:
        cell: what it is.
        links: the test links, ``h [link, history + num_future, subcarrier, rx_ant, tx_ant]``.
        h_past: their measured history.
        contenders: the methods; "perfect" needs none, it is judged by itself.

    Returns:
        Plain data; see the code for its fields.
    """
    truth = links.h[:, cell.history :]
    groups = {users: group_users(links.drop, users) for users in cell.users}
    record: dict[str, Any] = {
        "cell": asdict(cell),
        "drop": links.drop.tolist(),
        "group_drop": {str(users): found.drop.tolist() for users, found in groups.items()},
        "methods": {},
    }
    for contender in contenders:
        start = time.perf_counter()
        if contender.name == "perfect":
            predicted = truth
        else:
            predicted = hold_after_horizon(predict_all(contender, h_past, cell.horizon), cell.num_future)
        entry: dict[str, Any] = {"settings": contender.settings, "parameters": list(contender.parameters)}
        if contender.name != "perfect":
            entry["nmse"] = nmse(predicted, truth, reduction="none").tolist()
            entry["nmse_steps"] = nmse(predicted, truth, reduction="none", per_step=True).tolist()
        entry["se_single"] = link_se(predicted, truth, cell.headline_snr_db, tone_step=cell.tone_step).tolist()
        for users, found in groups.items():
            entry.setdefault("groups", {})[str(users)] = _group_figures(cell, predicted, truth, found)
        if cell.path_loss and groups:
            users = min(groups)
            gain = 10 ** ((links.gain_db - links.gain_db.mean()) / 20)[:, None, None, None, None]
            snr_db = _path_loss_snr_db(cell, float(links.gain_db.mean()))
            rates = group_rates(gain * predicted, gain * truth, groups[users], snr_db, tone_step=cell.tone_step)
            entry["path_loss_user_rates"] = rates.mean(-1).tolist()
        if cell.timed and contender.timed and contender.name != "perfect":
            entry |= time_contender(contender, h_past[:1].clone(), cell.horizon)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        record["methods"][contender.name] = entry
    return record


def predict_all(contender: Contender, h_past: Tensor, horizon: int) -> Tensor:
    """All links, a batch at a time."""
    with torch.inference_mode():
        parts = []
        for index in torch.arange(len(h_past)).split(contender.batch):
            past = h_past[index]  # a copy: a method that writes into its input cannot spoil the others'
            found = contender.predict(past, horizon, index)
            parts.append(check_prediction(contender.name, found, past, horizon))
    return torch.cat(parts)


def time_contender(contender: Contender, h_past: Tensor, horizon: int, repeats: int = 100) -> dict[str, float]:
    """Latency at batch 1 on one thread, and the FLOPs of matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    link = torch.zeros(1, dtype=torch.int64)
    found = measure_latency(lambda: contender.predict(h_past, horizon, link), warmup=5, repeats=repeats, threads=1)
    out = latency_fields(found)
    if contender.parameters[0]:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            contender.predict(h_past, horizon, link)
        out["flops"] = float(counter.get_total_flops())
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


def _group_figures(cell: Cell, predicted: Tensor, truth: Tensor, groups: Any) -> dict[str, Any]:
    """Sum rate of each group over transmit SNR, each user's rate and each slot's sum rate at the headline SNR."""
    figures: dict[str, Any] = {"sum_se_vs_snr": []}
    for snr_db in cell.transmit_snr_db:
        rates = group_rates(predicted, truth, groups, snr_db, tone_step=cell.tone_step)
        figures["sum_se_vs_snr"].append(rates.sum(1).mean(-1).tolist())
        if snr_db == cell.headline_snr_db:
            figures["user_rates"] = rates.mean(-1).tolist()
            figures["sum_se_steps"] = rates.sum(1).tolist()
    return figures


def _path_loss_snr_db(cell: Cell, mean_gain_db: float) -> float:
    """Transmit SNR [dB] per subcarrier of a user with the mean gain: 43 dBm spread over the band, 9 dB noise figure."""
    per_tone_dbm = 43.0 - 10 * torch.log10(torch.tensor(float(cell.recipe["num_subcarriers"]))).item()
    bandwidth_db = 10 * torch.log10(torch.tensor(float(cell.recipe["subcarrier_spacing"]))).item()
    return per_tone_dbm + mean_gain_db - (THERMAL_NOISE_DBM_PER_HZ + bandwidth_db + 9.0)
