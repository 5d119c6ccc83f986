"""What is timed beside whole predictions: streams, slot by slot, and the network alone. One entry each.

Streams are of one user: the first link.

A factory gets the :class:`Setting` and returns the call that is timed, ready to be repeated for ever. If that is a
``functools.partial`` of an object with an attribute ``engine``, the results name it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from airlam.csi import PortShape
from airlam.evaluation.latency.timing import Call
from airlam.loading import load_predictor


@dataclass(frozen=True)
class Setting:
    """What is predicted from what.

    Attributes:
        slots: measured CSI ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``, longer than ``history``.
        history: slots that a prediction uses.
        num_future: slots that it predicts.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
    """

    slots: Tensor
    history: int
    num_future: int
    port_shape: PortShape

    @property
    def h_past(self) -> Tensor:
        """The first ``history`` slots."""
        return self.slots[:, : self.history]


def replayed(stream: Any, slots: np.ndarray) -> Iterator[np.ndarray]:
    """Slots of a stream or group one by one, for ever. Each time they begin it is as it is now: a jump from the last to
    the first would make it refresh inside a push, several times."""
    begun = stream.state
    while True:
        stream.state = begun
        yield from slots


def push(name: str, setting: Setting, **options: Any) -> Call:
    """One new slot into a stream between two refreshes, and the prediction after it."""
    from airlam.realtime import Stream

    engine = _engine(name, setting, **options)
    stream, out = Stream(engine, refresh_every=10**9), np.empty((engine.num_future, *engine.shape), np.complex64)
    stream.start(setting.h_past[0].numpy())
    newest = replayed(stream, setting.slots[0, setting.history :].numpy())
    return lambda: stream.push(next(newest), out=out)


def refresh(name: str, setting: Setting, **options: Any) -> Call:
    """New filters of a stream, from those that it has."""
    engine, window = _engine(name, setting, **options), np.ascontiguousarray(setting.h_past[0].numpy())
    memory = engine.refresh(window)
    return lambda: engine.refresh(window, memory)


def fast(
    name: str, setting: Setting, *, tokens: tuple[int, int, int] | None = None, compiled: bool | None = None
) -> Call:
    """A full prediction of one link through the kernels and the fastest network.

    Args:
        tokens: single ones, groups, coefficients of a group; ``None``: the checkpoint's.
        compiled: see :func:`airlam.realtime.kernels.load`.
    """
    from airlam.realtime import FastPredictor

    predictor: Any = load_predictor(name)
    if tokens is not None:
        config = predictor.model.config  # settings, not weights: docs/models.md
        config.num_tokens, config.num_groups, config.group_size = tokens
    made, h = FastPredictor(predictor, compiled=compiled), setting.h_past[:1]
    return lambda: made.predict(h, setting.num_future, port_shape=setting.port_shape)


def _engine(name: str, setting: Setting, **options: Any) -> Any:
    from airlam.realtime import engine_for

    shape: Any = tuple(setting.slots.shape[2:])
    options |= {"history": setting.history, "port_shape": setting.port_shape}
    return engine_for(load_predictor(name), shape, setting.num_future, **options)


def network(setting: Setting, precision: str = "float32") -> Call:
    """The network of airlam-tiny alone, for one link, in the fastest runtime of this machine."""
    from airlam.realtime import fastest_network

    model: Any = getattr(load_predictor("airlam-tiny"), "model", None)
    x = setting.h_past[:1, -model.config.max_history :]
    tokens = model.tokenize(x, setting.num_future, setting.port_shape[0])
    inputs = [np.ascontiguousarray(t.numpy()) for t in (tokens.features, tokens.log_periodogram, tokens.noise)]
    fast = fastest_network(model, inputs[0].shape[1], precision=precision)
    return functools.partial(fast, *inputs)


_partial = functools.partial
STREAMS: dict[str, Callable[[Setting], Call]] = {
    **{f"{name}:push": _partial(push, name) for name in ("ar", "eigen-ar", "paths", "airlam-tiny", "airlam-paths")},
    **{f"{name}:push-basis": _partial(push, name, basis_every=1) for name in ("eigen-ar", "airlam-tiny")},
    **{f"{name}:refresh": _partial(refresh, name) for name in ("paths", "airlam-tiny", "airlam-paths")},
    "airlam-tiny:fast": _partial(fast, "airlam-tiny"),
    "airlam-tiny:fast-24-tokens": _partial(fast, "airlam-tiny", tokens=(16, 8, 16)),
    "airlam-tiny:fast-without-numba": _partial(fast, "airlam-tiny", compiled=False),
    "airlam-tiny:network": network,
    "airlam-tiny:network-bfloat16": _partial(network, precision="bfloat16"),
}
