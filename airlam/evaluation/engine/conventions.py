"""Scores of a cell's predictions under the convention of a publication, beside airlam's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.data.importers.sets.writing import SCENARIO
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.results import CELL, SE, CellRecord, Series
from airlam.evaluation.rows import Figure
from airlam.metrics import CONVENTIONS, published_scores

UNITS = {"nmse": "1", "se": SE, "se_formula": SE}


def convention_series(cell: Cell, links: LinkBatch, method: str, predicted: Tensor) -> list[Series]:
    """What a publication would write down for a prediction: a figure for the cell each.

    Every method meets the same noisy target. Links of an imported set weigh with the gains of their file, as published.
    Generated links all have unit power: their path losses, of users all over a cell, differ far more than those of the
    published sets, and would hide what the convention itself does.

    Args:
        links: the test links, true CSI.
        predicted: ``[link, slot, subcarrier, rx_ant, tx_ant]``.

    Returns:
        ``nmse_<convention>``, for LLM4CP also ``se_llm4cp`` and ``se_formula_llm4cp``; none without a convention.
    """
    if not cell.convention:
        return []
    scores = published_scores(
        cell.convention,
        predicted,
        links.h[:, cell.history : cell.history + predicted.shape[1]],
        gains_of(links.recipe, links.gain_db),
        polarisations=links.port_shape[0],
        generator=torch.Generator().manual_seed(cell.stream(f"target of {cell.convention}")),
    )
    return [
        Series(method, f"{name}_{cell.convention}", UNITS[name], torch.tensor([value]), CELL)
        for name, value in scores.items()
    ]


def gains_of(recipe: Mapping[str, Any], gain_db: Tensor) -> Tensor:
    """The gains that links weigh with under a published convention ``[link]`` [dB]."""
    return gain_db if recipe.get("scenario") == SCENARIO else torch.zeros_like(gain_db)


def convention_figures(records: list[CellRecord], method: str) -> dict[str, Figure]:
    """Those scores of a method: of one cell, or their linear mean over several, as publications average."""
    convention = records[0].cell.get("convention", "")
    found = {}
    for name, unit in UNITS.items() if convention in CONVENTIONS else ():
        values = [record.number(method, f"{name}_{convention}") for record in records]
        there = [value for value in values if value is not None]
        if there and len(there) == len(values):
            found[f"{name}_{convention}"] = Figure(sum(there) / len(there), unit, "measured")
    return found
