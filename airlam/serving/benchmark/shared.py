"""One pass for several answers, against a model for each."""

from __future__ import annotations

import time
from typing import Any

import torch

import airlam
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor
from airlam.serving.benchmark.parts import Bench
from airlam.serving.catalogue import FUTURE, POOLED, VARIANCE, Method
from airlam.serving.jobs import Job, run

BATCH = 4  # requests of a pass
ROUNDS = 7
LAYERS = HEADS = 8  # of larger backbones


def shared(bench: Bench) -> dict[str, Any]:
    """Prediction, error variances and a vector for scalar heads: one pass, or two of separate models."""
    out = {}
    for width in bench.arguments.widths:
        models = [model_of(bench, width) for _ in range(2)]
        out[str(models[0].backbone.config.hidden_size)] = compared(bench, models)
    return out


def model_of(bench: Bench, width: int) -> AirlamModel:
    """The model of the benchmark, or one of its kind with a larger backbone of random weights."""
    base = bench_model(bench)
    if not width:
        return base
    plain = dict(base.config.to_dict()["backbone"])
    plain |= {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    }
    fields = ("num_tokens", "num_groups", "group_size", "max_history", "error_variance", "phase_tracker")
    kept = {name: getattr(base.config, name) for name in fields}
    return AirlamModel(AirlamConfig(backbone=plain, **kept)).eval()


def bench_model(bench: Bench) -> AirlamModel:
    predictor = airlam.load_predictor(bench.load.model)
    model = getattr(predictor, "model", None)
    if not isinstance(model, AirlamModel):
        raise ValueError(f"load.model is {bench.load.model!r}, but the part 'shared' needs an airlam checkpoint")
    return model


def compared(bench: Bench, models: list[AirlamModel]) -> dict[str, Any]:
    """Seconds of one pass with all outputs, of two passes, and the backbone's share of a pass."""
    outputs = (FUTURE, POOLED, VARIANCE)
    methods = [Method(f"m{k}", "", AirlamPredictor(model), model, outputs, "") for k, model in enumerate(models)]

    def jobs(method: Method, *wanted: str) -> list[Job]:
        histories = (bench.h_past[k % len(bench.h_past)][None] for k in range(BATCH))
        names = frozenset({FUTURE, *wanted})
        return [Job(method, h, bench.load.num_future, bench.port_shape, names).check() for h in histories]

    together = jobs(methods[0], VARIANCE, POOLED)
    apart = (jobs(methods[0]), jobs(methods[1], VARIANCE, POOLED))
    seconds: dict[str, list[float]] = {"shared": [], "separate": [], "backbone": []}
    torch.set_num_threads(bench.arguments.threads)
    for turn in range(ROUNDS + 1):
        found = {
            "shared": timed(lambda: run(together)),
            "separate": timed(lambda: [run(each) for each in apart]),
            "backbone": timed(lambda: encoded(models[0], together)),
        }
        for name, value in found.items():
            if turn:  # the first one warms up
                seconds[name].append(value)
    median = {name: float(torch.tensor(values).median()) for name, values in seconds.items()}
    return {
        "shared_ms": 1e3 * median["shared"] / BATCH,
        "separate_ms": 1e3 * median["separate"] / BATCH,
        "gain": median["separate"] / median["shared"],
        "backbone_share": median["backbone"] / median["shared"],
        "parameters": sum(p.numel() for p in models[0].parameters()),
    }


def encoded(model: AirlamModel, jobs: list[Job]) -> None:
    """The backbone alone, on tokens of zeros."""
    config = model.config
    features = torch.zeros(len(jobs), config.num_tokens + config.num_groups, model.num_features)
    with torch.inference_mode():
        model.encode(features)


def timed(function: Any) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
