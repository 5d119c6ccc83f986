"""Tune a classical predictor on validation links: baselines are never left at a textbook default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from airlam.csi import PortShape, resolve_inputs
from airlam.interfaces import Predictor
from airlam.methods import grid_of
from airlam.metrics import nmse

Grid = Mapping[str, Sequence[Any]]


@resolve_inputs
def tune(
    predictor_class: Callable[..., Predictor],
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
        predictor_class: for example :class:`airlam.baselines.ARPredictor`; or anything that builds a predictor from
            keyword arguments. The search starts at the attributes of their names, or else at their defaults.
        h_past: measured histories ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        h_future: *true* futures, same links.
        grid: values for each argument; ``None``: that of the class in the registry (:mod:`airlam.methods`).
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
        >>> from airlam.baselines import VectorPronyPredictor
        >>> h = torch.randn(4, 20, 8, 1, 4, dtype=torch.complex64)
        >>> sorted(tune(VectorPronyPredictor, h[:, :16], h[:, 16:], grid={"order": [1, 2], "ridge": [1e-3, 1.0]}))
        ['order', 'ridge']
    """
    if grid is None:
        grid = grid_of(predictor_class)
        if grid is None:
            name = getattr(predictor_class, "__name__", predictor_class)
            raise ValueError(f"no default grid for {name}; give grid={{argument: values}}")
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
    best = {name: _start(default, name, values) for name, values in grid.items()}
    for _ in range(max_sweeps):
        before = dict(best)
        for name, values in grid.items():
            best = min([best, *({**best, name: value} for value in values)], key=score)
        if best == before:
            break
    return best


def _start(made: Predictor, name: str, values: Sequence[Any]) -> Any:
    """Where the search for an argument starts: its value in a predictor at its defaults, or the constructor's default,
    or else the first one of the grid."""
    if hasattr(made, name):
        return getattr(made, name)
    parameter = inspect.signature(type(made)).parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return next(iter(values))
    return parameter.default
