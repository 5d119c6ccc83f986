"""Full predictions and streams as contenders of one cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airlam.baselines.path_memory import remembered
from airlam.channels import LinkBatch
from airlam.evaluation.benchmarks.realtime.config import STREAM, RealtimeArguments
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import build_model, context_of, of_predictor, row_of, size, tuned
from airlam.evaluation.latency.reference import REFERENCE, reference_predict
from airlam.evaluation.latency.streams import replayed
from airlam.interfaces import Predictor
from airlam.methods import Method
from airlam.metrics import hold_after_horizon
from airlam.realtime import Engine, Memory, Stream, engine_for

# settings of classical methods that a stream has none of; at their defaults they are off
UNSTREAMED = ("mean_share", "forward_backward", "align", "calibrate")


def built(config: RealtimeArguments) -> dict[str, Predictor | Method]:
    """Name -> predictor, or a classical method that is tuned in every cell."""
    names = dict.fromkeys([*config.full, *config.streaming.names])
    rows = {name: row_of(config.model if name == config.label else name, "model") for name in names}
    return {name: build_model(*row) for name, row in rows.items()}


Tuned = tuple[Predictor, dict[str, Any]]  # a predictor, and the settings that were chosen for it


class Tuner:
    """Predictors of one cell; classical ones are tuned on short histories of other drops."""

    def __init__(self, config: RealtimeArguments, cell: Cell, port_shape: Any, context: dict[str, Any]) -> None:
        history, horizon = config.sizes.history, config.sizes.horizon
        h = cell.links("tune", cell.num_tune).h[:, : history + horizon]
        self.past, self.future = cell.observe(h, "tune")[0][:, :history], h[:, history:]
        self.port_shape, self.context = port_shape, context

    def __call__(self, model: Predictor | Method) -> Tuned:
        """The predictor, at its best settings."""
        if not isinstance(model, Method):
            return model, {}
        with remembered():
            return tuned(model, self.past, self.future, port_shape=self.port_shape, context=self.context)

    def streamed(self, model: Predictor | Method, found: Tuned) -> Tuned:
        """The same where its settings run slot by slot; else at the best of those that do."""
        plain = model.build() if isinstance(model, Method) else None
        if all(value == getattr(plain, name) for name, value in found[1].items() if name in UNSTREAMED):
            return found
        assert isinstance(model, Method)
        return self(replace(model, grid={name: x for name, x in model.grid.items() if name not in UNSTREAMED}))


def contenders(
    config: RealtimeArguments, cell: Cell, links: LinkBatch, models: Mapping[str, Predictor | Method]
) -> list[Contender]:
    """The frozen AR, all full predictions, all streams, and perfect CSI."""
    history, shape, context = config.sizes.history, links.port_shape, context_of(links)
    tune, frozen = Tuner(config, cell, shape, context), reference_predict()
    predictors = {name: tune(model) for name, model in models.items()}
    found = [Contender(REFERENCE, newest(lambda h, n, _: frozen(h, n, shape), history))]
    for name in config.full:
        predictor, settings = predictors[name]
        whole = of_predictor(name, predictor, context, shape, settings)
        found.append(replace(whole, predict=newest(whole.predict, history)))
    sizes: Any = tuple(links.h.shape[2:])
    for name in config.streaming.names:
        predictor, settings = tune.streamed(models[name], predictors[name])
        options = config.streaming.options.get(name, {})
        engine = engine_for(predictor, sizes, config.sizes.horizon, history=history, port_shape=shape, **options)
        stream = Judged(engine, config.refresh_of(name))
        found.append(Contender(name + STREAM, stream.predict, settings, (size(predictor), 0)))
    return [*found, Contender("perfect", lambda *_: torch.empty(0), timed=False)]


def newest(predict: Callable[[Tensor, int, Tensor], Tensor], history: int) -> Callable[[Tensor, int, Tensor], Tensor]:
    """The same from the newest slots alone."""
    return lambda h_past, num_future, links: predict(h_past[:, -history:], num_future, links)


class Judged:
    """A stream when its filters are as old as they become.

    Filters are found, renewed after ``refresh_slots``, and used until those that are begun then are ready: another
    ``refresh_slots`` for the last slot that they were not found from, and as many while the next ones are computed.
    """

    def __init__(self, engine: Engine, refresh_slots: int) -> None:
        self.engine, self.refresh_slots = engine, refresh_slots

    @staticmethod
    def slots(history: int, refresh_slots: int) -> int:
        """Slots of a link that it takes."""
        return history + 3 * refresh_slots

    def predict(self, h_past: Tensor, num_future: int, _: Tensor) -> Tensor:
        """Links ``[link, slot, ...]`` that end with the newest slot; the horizon's last slot is held."""
        out = torch.stack([torch.from_numpy(self._of_link(h.numpy())) for h in h_past])
        return hold_after_horizon(out, num_future)

    def _of_link(self, slots: np.ndarray) -> np.ndarray:
        engine, end = self.engine, len(slots)
        memory = self.found(slots, end - 2 * self.refresh_slots)
        out = np.empty((engine.num_future, *engine.shape), np.complex64)
        window = np.ascontiguousarray(slots[end - engine.history :])
        engine.advance(memory, window, engine.history, out)
        return out

    def found(self, slots: np.ndarray, end: int) -> Memory:
        """Filters from a window that ends before slot ``end``, and from one ``refresh_slots`` before that."""
        memory = None
        for stop in (end - self.refresh_slots, end):
            memory = self.engine.refresh(np.ascontiguousarray(slots[stop - self.engine.history : stop]), memory)
        assert memory is not None
        return memory


def pushes(contender: Contender, slots: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed of a stream: a push between two refreshes, and a refresh.

    Args:
        slots: of one link ``[slot, subcarrier, rx_ant, tx_ant]``.
    """
    judged: Judged = contender.predict.__self__  # type: ignore[attr-defined]
    stream = Stream(judged.engine, refresh_every=10**9)
    stream.start(slots[: judged.engine.history])
    out = np.empty((judged.engine.num_future, *judged.engine.shape), np.complex64)
    newest = replayed(stream, slots[judged.engine.history :].numpy())
    window = np.ascontiguousarray(slots[-judged.engine.history :].numpy())
    memory = judged.engine.refresh(window)
    return {
        contender.name: lambda: stream.push(next(newest), out=out),
        contender.name + ":refresh": lambda: judged.engine.refresh(window, memory),
    }
