"""What is timed beside whole predictions: streams, slot by slot, and the network alone. One entry each.

A factory gets the :class:`Setting` and returns the call that is timed, ready to be repeated for ever. If that is a
``functools.partial`` of an object with an attribute ``engine``, the results name it.
"""

from __future__ import annotations

import functools
import itertools
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

    def new_slots(self) -> Iterator[Tensor]:
        """Slots one by one, for ever: behind the history, and from the beginning again."""
        order = itertools.chain(range(self.history, self.slots.shape[1]), range(self.history))
        return itertools.cycle([self.slots[:, i] for i in order])


def push(setting: Setting) -> Call:
    """One new slot into the stream of airlam-tiny between two refreshes, and the prediction after it."""
    stream, slots = _stream(setting), setting.new_slots()
    return lambda: stream.push(next(slots))


def refresh(setting: Setting) -> Call:
    """Basis and filters of the stream of airlam-tiny anew."""
    return _stream(setting).refresh


def _stream(setting: Setting) -> Any:
    """A full one that never refreshes by itself."""
    from airlam.models import StreamingPredictor

    predictor: Any = load_predictor("airlam-tiny")
    stream = StreamingPredictor(
        predictor,
        setting.num_future,
        history=setting.history,
        refresh_every=10**9,
        port_shape=setting.port_shape,
    )
    for slot in setting.h_past.unbind(1):
        stream.push(slot)
    return stream


def network(setting: Setting, precision: str = "float32") -> Call:
    """The network of airlam-tiny alone, for one link, in the fastest runtime of this machine."""
    from airlam.realtime import fastest_network

    model: Any = getattr(load_predictor("airlam-tiny"), "model", None)
    x = setting.h_past[:1, -model.config.max_history :]
    tokens = model.tokenize(x, setting.num_future, setting.port_shape[0])
    inputs = [np.ascontiguousarray(t.numpy()) for t in (tokens.features, tokens.log_periodogram, tokens.noise)]
    fast = fastest_network(model, inputs[0].shape[1], precision=precision)
    return functools.partial(fast, *inputs)


STREAMS: dict[str, Callable[[Setting], Call]] = {
    "airlam-tiny:push": push,
    "airlam-tiny:refresh": refresh,
    "airlam-tiny:network": network,
    "airlam-tiny:network-bfloat16": functools.partial(network, precision="bfloat16"),
}
