"""A comparator behind the interface of every predictor."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import any_scale
from airlam.models.comparators.comparator import Comparator
from airlam.models.comparators.registry import load_own_comparator


class ComparatorPredictor:
    """Channel prediction by a :class:`Comparator`.

    Args:
        model: the network.
        name: of the row in tables; None: its kind.
        chunk: links per forward pass, bounds the memory.

    Example:
        >>> from airlam.models.comparators import build_comparator
        >>> predictor = ComparatorPredictor(build_comparator("gru", num_subcarriers=12, width=16))
        >>> predictor.predict(torch.randn(16, 12, 1, 4, dtype=torch.complex64), 4).shape
        torch.Size([4, 12, 1, 4])
    """

    def __init__(self, model: Comparator, name: str | None = None, *, chunk: int = 64):
        self.model, self.name, self.chunk = model.eval(), name or model.kind, chunk

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`. Computes in single precision.

        Raises:
            ValueError: the network was made for another band or array.
        """
        h = h_past.to(torch.complex64).reshape(-1, *h_past.shape[-4:])
        with torch.inference_mode():
            parts = [self.model(part, num_future, port_shape=port_shape) for part in h.split(self.chunk)]
        return torch.cat(parts).reshape(*h_past.shape[:-4], num_future, *h_past.shape[-3:]).to(h_past.dtype)


class TrainedComparator(ComparatorPredictor):
    """A trained comparator of one's own in a recipe or on the command line: its weights lie in a checkpoint folder, its
    class is named here, because a checkpoint never names code.

    ``--model '{class_path: airlam.models.comparators.TrainedComparator, init_args: {folder: ..., kind: ...}}'``.

    Args:
        folder: that ``airlam fit`` exported.
        kind: class path of the :class:`Comparator`, like ``my_network.Trend``.
        name: of the row in tables; None: the kind of the class.
        chunk: links per forward pass, bounds the memory.

    Raises:
        CheckpointError: no such folder, damaged, or of another kind. RecipeError: no such class.
    """

    def __init__(self, folder: str, kind: str, name: str | None = None, *, chunk: int = 64):
        super().__init__(load_own_comparator(folder, kind), name, chunk=chunk)
