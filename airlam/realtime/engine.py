"""What every stream is made of: an engine, which all users of a method share, and the memory of each user."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import NDArray

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
            memory: of an earlier refresh, from which a search may begin; it is read only.
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

    def twin(self) -> Engine:
        """The same engine with scratch of its own, for another thread."""
        ...
