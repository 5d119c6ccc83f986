"""Adapted estimators, and the control from random weights, for every share of the training links."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.csi import measure, series_along
from airlam.evaluation.benchmarks.reconstruction.config import ReconstructionArguments, Task
from airlam.evaluation.benchmarks.reconstruction.estimators import FewLinks, adapt
from airlam.interfaces import Estimator
from airlam.metrics import nmse

Estimators = dict[str, tuple[Any, dict[str, Any], int]]
"""Name of a row -> estimator, settings for the report, number of trained weights."""


def adapted(
    arguments: ReconstructionArguments, task: Task, train: dict[str, LinkBatch], tune: dict[str, LinkBatch]
) -> Estimators:
    """The model after adaptation, and a network from random weights trained on the same batches, by name of the row.

    Args:
        train: training links of each scenario. tune: links of each scenario that choose between adapters and all
            weights, if ``few_shot.lora_rank`` is given.
    """
    from airlam.models import AirlamEstimator

    few_shot, model, label = arguments.few_shot, arguments.model, Path(arguments.model).name
    shape = next(iter(train.values())).port_shape
    span = (min(arguments.cells.csi_snr_db), max(arguments.cells.csi_snr_db))
    options: dict[str, Any] = dict(
        axis=task.axis,
        patterns=list(task.patterns),
        steps=few_shot.steps,
        seed=arguments.seed,
        learning_rate=few_shot.learning_rate,
    )
    known = torch.cat([links.h for links in tune.values()])

    def batches(share: float) -> FewLinks:
        count = max(1, round(share * len(next(iter(train.values())))))
        h = torch.cat([links.h[:count] for links in train.values()])
        return FewLinks(h, shape, span, few_shot.batch_size, arguments.seed)

    def error(network: Any) -> float:
        y = measure(known, few_shot.csi_snr_db, torch.Generator().manual_seed(arguments.seed))
        return mean_error_db(AirlamEstimator(network, label), y, known, task, shape)

    most, rank = max(few_shot.shots), None
    whole: dict[int | None, Any] = {}
    if few_shot.lora_rank is not None:
        whole = {r: adapt(model, batches(most), lora_rank=r, **options) for r in (None, few_shot.lora_rank)}
        rank = min(whole, key=lambda r: error(whole[r]))
    out: Estimators = {}
    for share in sorted(few_shot.shots):
        few, suffix = batches(share), "" if share == most else f"-{100 * share:g}"
        for kind, random_start in (("adapted", False), ("random-start", True)):
            if not random_start and share == most and rank in whole:
                network: Any = whole[rank]
            else:
                lora = None if random_start else rank
                network = adapt(model, few, lora_rank=lora, random_start=random_start, **options)
            what = "all weights" if random_start or rank is None else f"LoRA of rank {rank}"
            settings = {"links": len(few.h), "steps": few_shot.steps, "trained": what}
            trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
            key = f"{label}:{kind}{suffix}"
            out[key] = (AirlamEstimator(network, key), settings, trained)
    return out


def mean_error_db(estimator: Estimator, y: Tensor, h: Tensor, task: Task, port_shape: Any) -> float:
    """NMSE in dB of the samples that were not measured, mean over the task's patterns.

    Args:
        y: measured CSI ``[link, slot, subcarrier, rx_ant, tx_ant]``. h: true CSI of the same shape.
    """
    from airlam.tasks import sampling_pattern

    total = 0.0
    length = series_along(h[:1], task.axis, port_shape)[0].shape[1]
    for pattern in task.patterns:
        observed, wanted = sampling_pattern(pattern, length)
        estimate = estimator.estimate(y, observed, axis=task.axis, port_shape=port_shape)
        pair = (series_along(x, task.axis, port_shape)[0][:, wanted] for x in (estimate, h))
        total += math.log10(float(nmse(*pair)))
    return 10 * total / len(task.patterns)
