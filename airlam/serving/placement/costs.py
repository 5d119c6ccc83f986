"""What each service costs on this machine: seconds, memory, bytes between."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from airlam.errors import RecipeError
from airlam.loading import load_precoder, load_predictor
from airlam.models import AirlamModel
from airlam.models.shared_pass import encode, read_out, tokenize
from airlam.serving.config import STAGES, Warm
from airlam.serving.jobs import usual_history
from airlam.serving.placement.problem import Service

ROUNDS = 15
PROCESS_MB = 450.0  # of a replica with torch and airlam loaded, before any model; measured as resident memory


def measured_services(model: str, warm: Warm) -> tuple[list[Service], float]:
    """The stages of a model, and the bytes of a request.

    Args:
        model: an airlam checkpoint. warm: sizes of its requests.

    Raises:
        RecipeError: a predictor without stages.
    """
    predictor = load_predictor(model)
    network: Any = getattr(predictor, "model", None)
    if not isinstance(network, AirlamModel):
        raise RecipeError(f"model is {model!r}, but only airlam checkpoints run in stages")
    h, shape = usual_history(warm)
    with torch.inference_mode():
        begun = tokenize(network, h, warm.num_future, port_shape=shape)
        features = sum(tokens.features.nbytes for tokens in begun.views)
        done = encode(network, begun)
        seconds = {
            "tokenizer": _seconds(lambda: tokenize(network, h, warm.num_future, port_shape=shape)),
            "backbone": _seconds(lambda: encode(network, begun)),
            "heads": _seconds(lambda: read_out(network, done)),
        }
        out = {
            # backbone and heads are sent what the tokenizer made; the heads need all of it
            "tokenizer": float(len(pickle.dumps(done)) + features),
            "backbone": float(sum(tokens.hidden.nbytes for tokens in done.views if tokens.hidden is not None)),
            "heads": float(read_out(network, done).future.nbytes),
        }
    weights = _weights_mb(network)
    return [Service(name, seconds[name], weights, out[name], core=name == "backbone") for name in STAGES], float(
        h.nbytes
    )


def measured_light(name: str, method: str, warm: Warm, users: int = 4) -> tuple[Service, float]:
    """A service that has no stages, and the bytes of a request.

    Args:
        name: ``classics`` or ``precoding``. method: a predictor or precoder. warm: sizes of requests to predictors;
            precoders are asked for its subcarriers and transmit antennas, and for ``users``.
    """
    held: Any = load_precoder(method) if name == "precoding" else load_predictor(method)
    if name == "precoding":
        generator = torch.Generator().manual_seed(0)
        h = torch.randn(warm.subcarriers, users, warm.tx_ants, generator=generator, dtype=torch.complex64)
        call = partial(held.precode, h, 1.0, 0.01)
    else:
        h, shape = usual_history(warm)
        call = partial(held.predict, h, warm.num_future, port_shape=shape)
    with torch.inference_mode():
        seconds, out_bytes = _seconds(call), float(call().nbytes)
    return Service(name, seconds, _weights_mb(getattr(held, "model", held)), out_bytes, core=False), float(h.nbytes)


def _weights_mb(held: Any) -> float:
    """Of a network; anything else has none."""
    return sum(p.nbytes for p in held.parameters()) / 1e6 if isinstance(held, torch.nn.Module) else 0.0


def _seconds(function: Callable[[], object]) -> float:
    function()
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return float(torch.tensor(found).median())
