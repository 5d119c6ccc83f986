"""Which engine runs which predictor."""

from __future__ import annotations

from typing import Any

from airlam.baselines import ARPredictor, EigenARPredictor
from airlam.baselines.paths import PathPredictor
from airlam.csi import PortShape
from airlam.interfaces import Predictor
from airlam.models.path_model import AirlamPathsPredictor
from airlam.models.predictor import AirlamPredictor
from airlam.realtime.classics import AREngine, EigenAREngine
from airlam.realtime.engine import Engine
from airlam.realtime.paths import PathEngine
from airlam.realtime.spectral import SpectralEngine

ENGINES: tuple[tuple[type, Any], ...] = (  # the first that fits
    (AirlamPathsPredictor, PathEngine),
    (AirlamPredictor, SpectralEngine),
    (PathPredictor, PathEngine),
    (EigenARPredictor, EigenAREngine),
    (ARPredictor, AREngine),
)


def engine_for(
    predictor: Predictor,
    shape: tuple[int, int, int],
    num_future: int,
    *,
    history: int = 16,
    port_shape: PortShape | None = None,
    **options: Any,
) -> Engine:
    """The engine that runs a predictor slot by slot.

    Args:
        predictor: one of those with an engine.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        num_future: slots to predict after each new one.
        history: slots that a prediction uses.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        options: of the engine.

    Raises:
        TypeError: a predictor without an engine. ValueError: sizes out of bounds.

    Example:
        >>> from airlam.baselines.paths import PathPredictor
        >>> engine_for(PathPredictor(), (48, 1, 32), 4, port_shape=(2, 4, 4)).name
        'paths'
    """
    for kind, engine in ENGINES:
        if isinstance(predictor, kind):
            return engine(predictor, shape, num_future, history=history, port_shape=port_shape, **options)
    known = ", ".join(sorted({kind.__name__ for kind, _ in ENGINES}))
    raise TypeError(f"{type(predictor).__name__} cannot run slot by slot; these can: {known}")
