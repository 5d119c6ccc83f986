"""Sources of CSI that predict: classical predictors tuned in the cell, learned ones, and perfect CSI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.evaluation.benchmarks.beamforming.beliefs import Belief, Source, halves, tones_of
from airlam.evaluation.benchmarks.beamforming.user_errors import UserErrors
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, contenders_of_cell, of_model
from airlam.evaluation.engine.measure import predict_all
from airlam.methods import Method
from airlam.metrics import hold_after_horizon


def predicted_sources(
    cell: Cell,
    links: LinkBatch,
    h_past: Tensor,
    tuning: tuple[LinkBatch, Tensor],
    models: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Source]:
    """Beliefs about the future slots: every predictor of ``names``, and ``perfect``.

    Classical predictors know the covariance of their errors from half of the validation drops, for each slot: one of
    all users, and one of each user that follows the covariance of its own history (:class:`UserErrors`). What a tuned
    precoder believes is of the other half: on drops whose errors are known too well it would trust them too much.
    """
    out, tones = {}, tones_of(cell, links.h.shape[2])
    known, seen = tuning
    fit, choose = halves(known)
    here = replace(cell, methods=tuple(names))
    for contender in contenders_of_cell(here, links, models, tuning=(known.h, seen)):
        name = contender.name
        if name == "perfect":
            future = slice(cell.history, None)
            out[name] = Source(Belief(links.h[:, future, tones]), Belief(known.h[choose][:, future, tones]))
            continue
        if hasattr(models.get(name), "predict_with_covariance"):
            found = Source(_with_covariance(models[name], h_past, cell, links.port_shape, tones))
        else:
            model = models.get(name.removesuffix(OFF))
            same = contender
            if model is not None and not isinstance(model, Method):
                same = of_model(name, model, known)  # told of the validation links, too
            pairs = ((contender, h_past), (same, seen))
            test, tune = (_held(predict_all(made, x, cell.horizon)[:, :, tones], cell) for made, x in pairs)
            error = (known.h[:, cell.history :, tones] - tune)[fit]
            own = UserErrors.fit(error, seen[fit])
            spread = own.mean[None, :, None, None]
            found = Source(Belief(test, spread, own(h_past)), Belief(tune[choose], spread, own(seen[choose])))
        found.settings, found.parameters = contender.settings, contender.parameters[0]
        told = models.get(name) if hasattr(models.get(name), "predict_with_covariance") else None
        found.once = _once(contender, told, h_past[:1], cell, links.port_shape, tones)
        out[name] = found
    return out


def _once(
    contender: Contender, model: Any, past: Tensor, cell: Cell, port_shape: Any, tones: Tensor
) -> Callable[[bool], Any]:
    link = torch.zeros(1, dtype=torch.int64)

    def once(told: bool) -> Any:
        if told and model is not None:
            return model.predict_with_covariance(past, cell.horizon, port_shape=port_shape, subcarriers=tones)
        return contender.predict(past, cell.horizon, link)

    return once


def _held(future: Tensor, cell: Cell) -> Tensor:
    return hold_after_horizon(future, cell.num_future)


def _with_covariance(model: Any, h_past: Tensor, cell: Cell, port_shape: Any, tones: Tensor) -> Belief:
    """A learned predictor's belief; beyond the horizon the last slot is held, and so is its covariance."""
    parts = [
        model.predict_with_covariance(part, cell.horizon, port_shape=port_shape, subcarriers=tones)
        for part in h_past.split(16)
    ]
    csi, covariance = (torch.cat(kind) for kind in zip(*parts, strict=True))
    missing = cell.num_future - cell.horizon
    if missing > 0:
        covariance = torch.cat([covariance, covariance[:, -1:].expand(-1, missing, *covariance.shape[2:])], 1)
    return Belief(_held(csi, cell), covariance)
