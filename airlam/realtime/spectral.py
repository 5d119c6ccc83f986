"""Streaming with an airlam checkpoint: the network now and then, all that follows the channel at every slot."""

from __future__ import annotations

import threading

import numpy as np

from airlam.csi import PortShape
from airlam.models.predictor import AirlamPredictor
from airlam.realtime import kernels
from airlam.realtime.analysis import Analyser, Network, checked_model
from airlam.realtime.link import LinkShape


class SpectralEngine:
    """Prediction slot by slot with the filters of the last refresh.

    A refresh computes basis, filters and gates from the window. Every slot has its phase and timing offset removed and
    is projected onto the basis; the AR filters of the classical start are fitted anew to the newest window; the
    network's filters are applied to it. With ``basis_every`` the basis follows, too: bins of the new basis take over
    filter and gate of the old bin that they overlap most.

    Args:
        predictor: a loaded checkpoint, one view.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        num_future: slots to predict.
        history: slots of a window.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        basis_every: slots after which the basis is computed anew; 0: at a refresh alone.
        network: for NumPy arrays, ``(features, log_periodogram, noise) -> (power, noise_variance, gate, ...)``; None:
            the checkpoint's own, in torch. Calls never overlap.
        compiled: see :func:`airlam.realtime.kernels.load`.

    :meth:`advance` is for one thread; :meth:`refresh` may run in others meanwhile.
    """

    name = "spectral"

    def __init__(
        self,
        predictor: AirlamPredictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int = 16,
        port_shape: PortShape | None = None,
        basis_every: int = 0,
        network: Network | None = None,
        compiled: bool | None = None,
    ):
        if isinstance(basis_every, bool) or not isinstance(basis_every, int) or basis_every < 0:
            raise ValueError(f"basis_every is {basis_every!r}, but must be a whole number, 0 or more")
        self.kernels = kernels.load(compiled)
        self.link = LinkShape.of(shape, port_shape, history, num_future)
        self.history, self.num_future, self.shape = history, num_future, self.link.slot
        self.basis_every = basis_every
        self.analyser = Analyser(self.kernels, checked_model(predictor), self.link, network)
        self._one_network = threading.Lock()
        self._network = self.analyser.network
        self.analyser.network = self._alone
        link = self.link
        self._series = self.analyser.series()
        tracker = self.analyser.tracker
        self._track = None if tracker is None else tracker.scratch(history)
        self._entering, self._leaving, self._half, self._one = (link.folded(1) for _ in range(4))
        self._grid, self._grid_half = link.grid(), link.grid()
        if basis_every:
            self._window_half, self._window = link.folded(history), link.folded(history)
            self._energy = link.energy()

    def _alone(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._one_network:  # a network may write to the same memory at each call
            return tuple(np.array(x) for x in self._network(*inputs))

    def refresh(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """A user's memory from a full window ``complex64 [history, subcarrier, rx_ant, tx_ant]``.

        Arrays are those of :class:`airlam.realtime.analysis.Analysis`. With ``basis_every`` the folded window stays as
        a ring whose oldest slot is ``head``, and ``age`` counts the slots since the last basis.
        """
        found = self.analyser.analyse(slots)._asdict()
        del found["start"]
        if self.basis_every:
            return found | {"head": np.zeros((), np.int64), "age": np.zeros((), np.int64)}
        for name in ("folded", "tone_covariance", "port_covariance"):
            del found[name]
        return found

    def advance(self, memory: dict[str, np.ndarray], slots: np.ndarray, new: int, out: np.ndarray) -> None:
        """Take the ``new`` newest of ``slots`` into ``memory`` and predict.

        Args:
            memory: from :meth:`refresh`; changed in place.
            slots: ``complex64 [history, subcarrier, rx_ant, tx_ant]``, newest last.
            new: slots that ``memory`` has not seen; 0: none.
            out: written, ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``.
        """
        k, m = self.kernels, memory
        new = min(new, self.history)
        if new:
            self._follow(m, slots, new)
        future = self._series.predict(m["series"], m["sums"])
        k.blend(m["series"], m["weights"], m["token"], m["gate"], future)
        k.synthesise(future, m["rows"], m["cols"], m["frequency"], m["port"], self._grid, self._grid_half, out)

    def _follow(self, m: dict[str, np.ndarray], slots: np.ndarray, new: int) -> None:
        k, tracker = self.kernels, self.analyser.tracker
        if tracker is not None:
            tracker.update(slots, new, m["products"], m["offsets"], self._track)
        fresh = False
        if self.basis_every:
            m["age"] += new
            fresh = int(m["age"]) >= self.basis_every
        for slot in range(self.history - new, self.history):
            k.fold(slots, m["offsets"], slot, self._entering)
            if self.basis_every:
                head = int(m["head"])
                k.exchange(m["folded"], head, self._entering, self._leaving)
                m["head"][...] = (head + 1) % self.history
                k.update_covariances(self._entering, self._leaving, m["tone_covariance"], m["port_covariance"])
            if not fresh:
                k.project(self._entering, m["frequency"], m["port"], self._half, self._one)
                k.gather(self._one, 0, m["rows"], m["cols"], m["series"])
        if fresh:
            self._renew(m)
            new = self.history
        k.multiply(m["series"], new, m["sums"])

    def _renew(self, m: dict[str, np.ndarray]) -> None:
        """A new basis, the window projected onto it, and filters handed over."""
        k = self.kernels
        old = {name: m[name].copy() for name in ("frequency", "port", "rows", "cols", "token")}
        k.eigenvectors(m["tone_covariance"], m["port_covariance"], m["frequency"], m["port"])
        k.project(m["folded"], m["frequency"], m["port"], self._window_half, self._window)
        k.energies(self._window, self._energy)
        k.pick(self._energy, m["rows"], m["cols"])
        k.gather(self._window, int(m["head"]), m["rows"], m["cols"], m["series"])
        k.hand_over(*old.values(), m["frequency"], m["port"], m["rows"], m["cols"], m["token"])
        m["age"][...] = 0
