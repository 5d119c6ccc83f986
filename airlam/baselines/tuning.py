"""Tune a classical predictor on validation links: a baseline left at a textbook default is no baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from airlam.baselines.ar import ARPredictor
from airlam.baselines.eigen_ar import EigenARPredictor
from airlam.baselines.hold import HoldPredictor
from airlam.baselines.kalman import KalmanPredictor
from airlam.baselines.prony import PADPredictor, VectorPronyPredictor
from airlam.baselines.wiener import JakesWienerPredictor, WienerPredictor
from airlam.csi import PortShape, resolve_inputs
from airlam.metrics import nmse

Grid = Mapping[str, Sequence[Any]]

DEFAULT_GRIDS: dict[type, Grid] = {
    HoldPredictor: {},
    ARPredictor: {
        "shrinkage": (1.0, 3.0, 6.0, 12.0, 30.0, math.inf),
        "num_bins": (32, 64, 128, 256, 512, 768, 1024, None),
        "order": (2, 4, 6, 8, 10, 12),
        "ridge": (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    },
    EigenARPredictor: {
        "num_bins": (32, 64, 128, 256, 384, 512, 768),
        "shrinkage": (1.0, 3.0, 6.0, 12.0, 30.0, math.inf),
        "num_classes": (1, 2, 4, 8),
        "order": (4, 6, 8, 10, 12),
        "ridge": (1e-5, 1e-4, 1e-3, 1e-2, 3e-2),
    },
    PADPredictor: {
        "order": (1, 2, 3, 4, 6, 12, 14),
        "energy": (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.997, 1.0),
        "ridge": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    },
    VectorPronyPredictor: {"order": (2, 4, 6, 8, 10, 12), "ridge": (1e-5, 1e-4, 1e-3, 1e-2)},
    WienerPredictor: {
        "order": (4, 6, 8, 10, 12),
        "ridge": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        "num_bins": (16, 64, 256, 1024, None),
    },
    JakesWienerPredictor: {"order": (4, 8, 12, 16), "ridge": (1e-4, 1e-3, 1e-2, 1e-1)},
    KalmanPredictor: {
        "num_bins": (256, 512, None),
        "fit_bins": (16, 32, 128),
        "process_noise": (1.0, 2.0, 4.0, 8.0),
        "order": (4, 8, 12),
    },
}


@resolve_inputs
def tune(
    predictor_class: type,
    h_past: Tensor,
    h_future: Tensor,
    *,
    grid: Grid | None = None,
    port_shape: PortShape | None = None,
    context: dict | None = None,
    search: str = "coordinate",
    max_sweeps: int = 3,
    batch_size: int = 16,
    progress: Callable[[dict, float], None] | None = None,
) -> dict[str, Any]:
    """Best keyword arguments of a predictor by NMSE (mean per link) on validation links.

    Args:
        predictor_class: for example :class:`airlam.baselines.ARPredictor`.
        h_past: measured histories ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        h_future: *true* futures, same links.
        grid: values for each argument; ``None``: this class's entry of ``DEFAULT_GRIDS``.
        port_shape, context: handed to ``predict``; tensors in ``context`` with one entry per link are split with them.
        search: ``"coordinate"``: from the class's defaults change one argument at a time, sweep until nothing improves;
            ``"full"``: every combination.
        max_sweeps: bound on the coordinate search.
        batch_size: links predicted at once.
        progress: called with every tried setting and its NMSE.

    Returns:
        keyword arguments; the class's own default is among the candidates wherever it lies on the grid, and is kept
        where nothing on the grid is better.

    Example:
        >>> import torch
        >>> h = torch.randn(4, 20, 8, 1, 4, dtype=torch.complex64)
        >>> sorted(tune(VectorPronyPredictor, h[:, :16], h[:, 16:], grid={"order": [1, 2], "ridge": [1e-3, 1.0]}))
        ['order', 'ridge']
    """
    if grid is None:
        if predictor_class not in DEFAULT_GRIDS:
            raise ValueError(f"no default grid for {predictor_class.__name__}; give grid={{argument: values}}")
        grid = DEFAULT_GRIDS[predictor_class]
    if search not in ("coordinate", "full"):
        raise ValueError(f"search must be 'coordinate' or 'full', got {search!r}")
    if len(h_past) != len(h_future) or len(h_past) == 0:
        raise ValueError(f"h_past has {len(h_past)} links and h_future {len(h_future)}: the same links are needed")
    tried: dict[tuple, float] = {}

    def score(kwargs: dict[str, Any]) -> float:
        key = tuple(sorted(kwargs.items(), key=lambda item: item[0]))
        if key not in tried:
            predictor = predictor_class(**kwargs)
            total = 0.0
            for start in range(0, len(h_past), batch_size):
                part = slice(start, start + batch_size)
                side = {k: v[part] if isinstance(v, Tensor) and v.dim() else v for k, v in (context or {}).items()}
                h_hat = predictor.predict(h_past[part], h_future.shape[-4], port_shape=port_shape, context=side)
                total += float(nmse(h_hat, h_future[part], reduction="none").sum())
            tried[key] = total / len(h_past)
            if progress is not None:
                progress(kwargs, tried[key])
        return tried[key]

    if search == "full":
        candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        return min(candidates, key=score)
    default = predictor_class()
    best = {name: getattr(default, name) for name in grid}
    for _ in range(max_sweeps):
        before = dict(best)
        for name, values in grid.items():
            best = min([best, *({**best, name: value} for value in values)], key=score)
        if best == before:
            break
    return best
