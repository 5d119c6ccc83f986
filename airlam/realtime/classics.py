"""Streaming with the classical AR predictors: nothing is learned, so the newest window is all that counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from airlam.baselines import ARPredictor, EigenARPredictor
from airlam.csi import PortShape
from airlam.realtime.engine import Memory, PredictorEngine
from airlam.realtime.link import ARSettings, LinkShape, Series, num_classes
from airlam.realtime.moving_basis import MovingBasis


def dft(size: int, sign: int) -> np.ndarray:
    """Unitary DFT with ``exp(sign * j ...)``, ``complex64 [size, size]``; symmetric."""
    index = np.arange(size)
    return (np.exp(sign * 2j * np.pi * (np.outer(index, index) % size) / size) / math.sqrt(size)).astype(np.complex64)


class AREngine(PredictorEngine):
    """:class:`airlam.baselines.ARPredictor` slot by slot: each slot's prediction is the predictor's own.

    The beam-delay series of all bins stay in a user's memory, so that a slot costs one transform of itself. The
    strongest bins are chosen and their filters fitted anew at every slot.

    Args:
        predictor: with bins outside the strongest predicted as zero, and no share of the mean set aside.
        shape, num_future, history, port_shape, compiled: see :class:`airlam.realtime.spectral.SpectralEngine`.
    """

    def __init__(
        self,
        predictor: ARPredictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int = 16,
        port_shape: PortShape | None = None,
        compiled: bool | None = None,
    ):
        p = predictor
        whole = p.num_bins is None or p.num_bins >= math.prod(shape)
        if p.mean_share or p.limit != 1.5 or (p.tail != "zero" and not whole):
            raise ValueError("an AR engine needs mean_share=0, limit=1.5, tail='zero'")
        if p.shrinkage == 0:  # each bin alone, no pooled filter: a case of the torch functions only
            compiled = False
        super().__init__(predictor, shape, num_future, history=history, port_shape=port_shape, compiled=compiled)
        self.link = link = LinkShape.of(shape, port_shape, history, num_future)
        self.bins = link.num_bins if p.num_bins is None else min(p.num_bins, link.num_bins)
        settings = ARSettings.pooled(p.order, p.ridge, p.shrinkage, history)
        self._series = Series(self.kernels, link, settings, self.bins)
        columns, rows = (1, link.ports) if port_shape is None else port_shape[1:]
        self._delays = dft(link.tones, 1)
        self._beams = np.kron(dft(columns, -1), dft(rows, -1))  # of one polarisation
        self._tones = np.ascontiguousarray(self._delays.conj())
        self._ports = np.ascontiguousarray(self._beams.conj())
        self._rows, self._cols = np.zeros(self.bins, np.int32), np.zeros(self.bins, np.int32)
        self._kept = np.zeros((2, history, self.bins), np.float32)
        self._products = np.zeros((1, history, history), np.complex64)
        self._energy = np.zeros((link.tones, link.num_bins // link.tones), np.float32)
        self._future = np.zeros((num_future, *link.slot), np.complex64)

    def _transform(self, slots: np.ndarray) -> np.ndarray:
        """``[slot, subcarrier, rx_ant, tx_ant]`` -> beam-delay bins ``[slot, bin]``."""
        x = slots.reshape(len(slots), self.link.tones, -1, self.link.ports) @ self._beams
        return (self._delays @ x.reshape(len(slots), self.link.tones, -1)).reshape(len(slots), -1)

    def refresh(self, slots: np.ndarray, memory: Memory | None = None) -> Memory:
        """A user's memory, ``series float32 [subcarrier, slot, 2, rx_ant * tx_ant]``, from a window."""
        series = np.zeros((self.link.tones, self.history, 2, self._energy.shape[1]), np.float32)
        found = {"series": series}
        self._append(found, slots, self.history)
        return found

    def _append(self, memory: Memory, slots: np.ndarray, new: int) -> None:
        series = memory["series"]
        bins = self._transform(slots[self.history - new :]).reshape(new, self.link.tones, -1).swapaxes(0, 1)
        if new < self.history:
            series[:, :-new] = series[:, new:]
        series[:, self.history - new :, 0], series[:, self.history - new :, 1] = bins.real, bins.imag

    def advance(self, memory: Memory, slots: np.ndarray, new: int, out: np.ndarray) -> None:
        """See :meth:`airlam.realtime.spectral.SpectralEngine.advance`."""
        k = self.kernels
        new = min(new, self.history)
        if new:
            self._append(memory, slots, new)
        bins = memory["series"][None, :, :, :, None]  # as folded slots of one polarisation and one antenna
        k.energies(bins, self._energy)
        k.pick(self._energy, self._rows, self._cols)
        k.gather(bins, 0, self._rows, self._cols, self._kept)
        k.multiply(self._kept, self.history, self._products)
        future = self._series.predict(self._kept, self._products)
        flat = self._future.reshape(self.num_future, self.link.tones, -1)
        flat[:] = 0
        flat[:, self._rows, self._cols] = future[0] + 1j * future[1]
        x = (self._tones @ flat).reshape(self.num_future, self.link.tones, -1, self.link.ports) @ self._ports
        out[:] = x.reshape(out.shape)


class EigenAREngine(PredictorEngine):
    """:class:`airlam.baselines.EigenARPredictor` slot by slot, filters fitted anew at every slot.

    Right after a refresh the prediction is the predictor's own; later the basis is that of the last refresh, or
    follows every ``basis_every`` slots.

    Args:
        predictor: with covariances averaged forward and backward, and no share of the mean set aside.
        basis_every: slots after which the basis is computed anew; 0: at a refresh alone.
        shape, num_future, history, port_shape, compiled: see :class:`airlam.realtime.spectral.SpectralEngine`.
    """

    def __init__(
        self,
        predictor: EigenARPredictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int = 16,
        port_shape: PortShape | None = None,
        basis_every: int = 0,
        compiled: bool | None = None,
    ):
        p = predictor
        if p.mean_share or not p.forward_backward:
            raise ValueError("an eigen-AR engine needs mean_share=0 and forward_backward=True")
        options: dict[str, Any] = {"history": history, "port_shape": port_shape, "compiled": compiled}
        super().__init__(predictor, shape, num_future, **options, basis_every=basis_every)
        self.link = LinkShape.of(shape, port_shape, history, num_future)
        self.basis = MovingBasis(self.kernels, self.link, min(p.num_bins, self.link.num_bins), basis_every)
        self.classes = num_classes(p.num_classes, self.basis.bins)
        settings = ARSettings.by_class(p.order, p.ridge, p.shrinkage, history)
        self._series = Series(self.kernels, self.link, settings, self.basis.bins)

    @property
    def bounds(self) -> dict[str, int]:
        return self.link.bounds

    def refresh(self, slots: np.ndarray, memory: Memory | None = None) -> Memory:
        """A user's memory from a full window; see :meth:`MovingBasis.start`."""
        offsets = np.zeros((2, self.history), np.float32)
        found = self.basis.start(slots, offsets) | {"offsets": offsets}
        found["sums"] = np.zeros((self.classes, self.history, self.history), np.complex64)
        self.kernels.multiply(found["series"], self.history, found["sums"])
        return found

    def advance(self, memory: Memory, slots: np.ndarray, new: int, out: np.ndarray) -> None:
        """See :meth:`airlam.realtime.spectral.SpectralEngine.advance`."""
        new = min(new, self.history)
        if new:
            fresh = self.basis.follow(memory, slots, memory["offsets"], new)
            self.kernels.multiply(memory["series"], self.history if fresh else new, memory["sums"])
        self.basis.synthesise(memory, self._series.predict(memory["series"], memory["sums"]), out)
