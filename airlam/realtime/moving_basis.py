"""A link's basis that follows its window, and the series of the strongest bins in it."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from airlam.realtime.engine import Memory
from airlam.realtime.link import LinkShape

FILTERED = ("frequency", "port", "rows", "cols", "token")


class MovingBasis:
    """The steps from slots to series and back, for links of one shape.

    Args:
        bins: strongest bins that are kept.
        every: slots after which the basis is computed anew; 0: only by :meth:`start`.

    A user's memory holds

    - ``frequency float32 [subcarrier, mode]`` and ``port [polarisation, port, mode]``, eigenvectors on folded axes;
    - ``rows``, ``cols int32 [bin]``: where the kept bins are (:mod:`airlam.realtime.kernels.compiled_basis`), strongest
      first;
    - ``series float32 [2, slot, bin]``: these bins over the window;
    - with ``every``: ``folded``, the window as a ring whose oldest slot is ``head``; its covariances
      ``tone_covariance`` and ``port_covariance``; ``age``, slots since the last basis.

    Scratch is for one thread; :meth:`start` uses none of it.
    """

    def __init__(self, kernels: ModuleType, link: LinkShape, bins: int, every: int):
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise ValueError(f"basis_every is {every!r}, but must be a whole number, 0 or more")
        self.kernels, self.link, self.bins, self.every = kernels, link, bins, every
        self._one, self.grids = np.stack([link.folded(1)] * 3), (link.grid(), link.grid())
        if every:
            self._window_half, self._window = link.folded(link.history), link.folded(link.history)
            self._energy = link.energy()

    def start(self, slots: np.ndarray, offsets: np.ndarray, energy: np.ndarray | None = None) -> Memory:
        """Basis and series of a full window ``complex64 [slot, subcarrier, rx_ant, tx_ant]``, turned back by ``offsets
        [2, slot]`` [rad]. Energies of all bins go to ``energy [row, col]``."""
        k, s = self.kernels, self.link
        energy = s.energy() if energy is None else energy
        folded, half, coefficients = (s.folded(s.history) for _ in range(3))
        k.fold(slots, offsets, 0, folded)
        m = {
            "frequency": np.zeros((s.tones, s.tones), np.float32),
            "port": np.zeros((s.polarisations, s.ports, s.ports), np.float32),
            "rows": np.zeros(self.bins, np.int32),
            "cols": np.zeros(self.bins, np.int32),
            "series": np.zeros((2, s.history, self.bins), np.float32),
        }
        tone, port = np.zeros_like(m["frequency"]), np.zeros_like(m["port"])
        k.covariances(folded, tone, port)
        basis = (m["frequency"], m["port"], m["rows"], m["cols"])
        k.renew(folded, 0, tone, port, *basis, m["series"], half, coefficients, energy)
        if self.every:
            m |= {"folded": folded, "tone_covariance": tone, "port_covariance": port}
            m |= {"head": np.zeros((), np.int64), "age": np.zeros((), np.int64)}
        return m

    def follow(self, m: Memory, slots: np.ndarray, offsets: np.ndarray, new: int) -> bool:
        """Take the ``new`` newest of ``slots`` into the series; whether the basis is a new one.

        Where the memory has :data:`FILTERED` arrays of the basis that the network's filters are of (``filter_token``
        and so on), each new bin's ``token`` is that of the bin there that it overlaps most. Not that of the basis
        before: an error of a handover would pass on to all that follow.
        """
        k, s = self.kernels, self.link
        fresh = False
        if self.every:
            m["age"] += new
            fresh = int(m["age"]) >= self.every
        for slot in range(s.history - new, s.history):
            if self.every:
                head = int(m["head"])
                ring = (m["folded"], head, m["tone_covariance"], m["port_covariance"])
                k.move(slots, offsets, slot, *ring, self._one)
                m["head"][...] = (head + 1) % s.history
            if not fresh:
                basis = (m["frequency"], m["port"], m["rows"], m["cols"])
                k.append(slots, offsets, slot, *basis, m["series"], self._one)
        if fresh:
            self._renew(m)
        return fresh

    def _renew(self, m: Memory) -> None:
        k = self.kernels
        ring = (m["folded"], int(m["head"]), m["tone_covariance"], m["port_covariance"])
        basis = (m["frequency"], m["port"], m["rows"], m["cols"])
        k.renew(*ring, *basis, m["series"], self._window_half, self._window, self._energy)
        if "filter_token" in m:
            of_filters = (m[f"filter_{name}"] for name in FILTERED)
            k.hand_over(*of_filters, *basis, m["token"])
        m["age"][...] = 0

    def synthesise(self, m: Memory, future: np.ndarray, out: np.ndarray) -> None:
        """Bins ``future float32 [2, slot, bin]`` -> ``out complex64 [slot, subcarrier, rx_ant, tx_ant]``."""
        basis = (m["rows"], m["cols"], m["frequency"], m["port"])
        self.kernels.synthesise(future, *basis, *self.grids, out)
