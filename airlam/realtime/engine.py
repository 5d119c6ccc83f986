"""What every stream is made of: an engine, which all users of a method share, and the memory of each user."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from airlam.csi import PortShape, check_port_shape
from airlam.interfaces import Predictor
from airlam.realtime import kernels
from airlam.realtime.identity import identity_of
from airlam.realtime.layout import Layout, check_arrays, layout_of

Memory = dict[str, NDArray]
"""What an engine keeps of one user between two slots: filters, and the slots of the window as the filters see them."""


class Engine(Protocol):
    """A method of prediction in two clocks, for slots of one shape.

    ``refresh`` is the slow clock: it finds the statistics of a link and solves for filters. ``advance`` is the fast
    one: it applies them to the newest slots. Arrays are NumPy's, ``complex64`` and contiguous; a window is ``[slot,
    subcarrier, rx_ant, tx_ant]``, oldest slot first.

    Attributes:
        name: of the row in tables.
        identity: the method, its weights and its sizes as text; the state of another engine is refused.
        history: slots of a window.
        num_future: slots that are predicted.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
    """

    name: str
    identity: str
    history: int
    num_future: int
    shape: tuple[int, int, int]

    def refresh(self, window: NDArray, memory: Memory | None = None) -> Memory:
        """Filters from a whole window, and that window as they see it.

        Args:
            window: ``complex64 [history, *shape]``.
            memory: of an earlier refresh, from which a search may begin. ``advance`` may write to its arrays meanwhile,
                so only those that it leaves alone are read.
        """
        ...

    def advance(self, memory: Memory, window: NDArray, new: int, out: NDArray) -> None:
        """Predict from a window whose ``new`` newest slots ``memory`` has not seen.

        Args:
            memory: updated in place.
            window: ``complex64 [history, *shape]``.
            new: from 0 to ``history``.
            out: ``complex64 [num_future, *shape]``, where the prediction is written.
        """
        ...

    def check(self, memory: Memory) -> None:
        """Raises ValueError unless every array of ``memory`` is one that :meth:`advance` may index with."""
        ...

    def twin(self) -> Engine:
        """The same engine with scratch of its own, for another thread."""
        ...


class PredictorEngine:
    """What every engine knows: its predictor, the sizes it was made for, and which kernels run.

    Args:
        predictor: whose predictions it makes.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        num_future: slots to predict.
        history: slots of a window.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        compiled: see :func:`airlam.realtime.kernels.load`.
        options: further ones of the engine.
    """

    predictor: Any
    kernels: ModuleType
    _layout: Layout | None = None

    def __init__(
        self,
        predictor: Predictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int,
        port_shape: PortShape | None,
        compiled: bool | None,
        **options: Any,
    ) -> None:
        for name, value, least in (("num_future", num_future, 1), ("history", history, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least {least}")
        sizes = tuple(shape)
        if len(sizes) != 3 or not all(isinstance(n, int) and n >= 1 for n in sizes):
            raise ValueError(f"shape is {shape!r}, but must be (subcarriers, rx_ants, tx_ants), each at least 1")
        self.predictor, self.name = predictor, predictor.name
        self.shape, self.num_future, self.history = (sizes[0], sizes[1], sizes[2]), num_future, history
        self.port_shape = check_port_shape(sizes[2], port_shape)
        self.kernels = kernels.load(compiled)
        plain = sorted((key, value) for key, value in options.items() if key != "network")
        facts = (num_future, history, *sizes, *self.port_shape, *plain, self.kernels.__name__)
        self.identity = identity_of(predictor, facts)
        self._options = {"history": history, "port_shape": port_shape, "compiled": compiled, **options}

    def check(self, memory: Memory) -> None:
        """See :meth:`Engine.check`."""
        check_arrays(memory, self.layout(memory))

    def layout(self, memory: Memory) -> Layout:
        """What the arrays of this memory must look like: by default, as those of any other refresh."""
        if self._layout is None:
            example = self.refresh(np.ones((self.history, *self.shape), np.complex64))  # type: ignore[attr-defined]
            self._layout = layout_of(example, self.bounds)
        return self._layout

    @property
    def bounds(self) -> dict[str, int]:
        """Bounds of the whole numbers in a memory, by name."""
        return {}

    def twin(self) -> Self:
        """See :meth:`Engine.twin`."""
        return type(self)(self.predictor, self.shape, self.num_future, **self._options)
