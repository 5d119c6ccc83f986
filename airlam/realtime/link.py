"""One link's arrays: their shapes, the settings of its AR filters, and the steps that several engines share."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np

from airlam.baselines.ar import effective_order
from airlam.baselines.bins import TINY
from airlam.csi import PortShape, check_port_shape

LIMIT = np.float32(1.5)  # of a predicted sample, relative to the largest of its series


@dataclass(frozen=True)
class LinkShape:
    """Sizes of one link's window and prediction; ``ports`` are those of one polarisation."""

    history: int
    num_future: int
    tones: int
    rx_ants: int
    polarisations: int
    ports: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], port_shape: PortShape | None, history: int, num_future: int) -> LinkShape:
        """From the shape (subcarriers, rx_ants, tx_ants) of a slot."""
        for name, value in (("history", history), ("num_future", num_future)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
        tones, rx_ants, tx_ants = shape
        polarisations = check_port_shape(tx_ants, port_shape)[0]
        return cls(history, num_future, tones, rx_ants, polarisations, tx_ants // polarisations)

    @property
    def slot(self) -> tuple[int, int, int]:
        """(subcarriers, rx_ants, tx_ants)."""
        return self.tones, self.rx_ants, self.polarisations * self.ports

    @property
    def num_bins(self) -> int:
        """Coefficients of a slot."""
        return self.tones * self.rx_ants * self.polarisations * self.ports

    @property
    def filled(self) -> int:
        """See :func:`airlam.models.tokens.filled_bins`."""
        by_tone = min(self.tones, self.history * self.rx_ants * self.polarisations * self.ports)
        return by_tone * self.rx_ants * self.polarisations * min(self.ports, self.history * self.tones * self.rx_ants)

    @property
    def bounds(self) -> dict[str, int]:
        """Of the places of bins in a basis, and of the oldest slot in a ring."""
        return {"rows": self.polarisations * self.tones, "cols": self.rx_ants * self.ports, "head": self.history}

    def folded(self, slots: int) -> np.ndarray:
        """Room for folded slots or their coefficients."""
        return np.empty((self.polarisations, self.tones, slots, 2, self.rx_ants, self.ports), np.float32)

    def grid(self) -> np.ndarray:
        """Room for the coefficients of a prediction."""
        sizes = (self.polarisations, self.tones, self.num_future, self.rx_ants, 2 * self.ports)
        return np.empty(sizes, np.float32)

    def energy(self) -> np.ndarray:
        """Room for the energies of all bins."""
        return np.empty((self.polarisations * self.tones, self.rx_ants * self.ports), np.float32)


class ARSettings(NamedTuple):
    """Arguments of ``ar_taps``; see :func:`airlam.realtime.kernels.compiled_filters.pooled_filters` for the loading."""

    order: int
    ridge: float
    relative: float
    absolute: float
    shrinkage: float

    @classmethod
    def by_class(cls, order: int, ridge: float, shrinkage: float, history: int) -> ARSettings:
        """As :func:`airlam.baselines.eigen_ar.class_filters`."""
        finfo = np.finfo(np.float32)
        order = effective_order(order, history)
        return cls(order, float(ridge), float(8 * order * finfo.eps), float(finfo.tiny) ** 0.5, float(shrinkage))

    @classmethod
    def pooled(cls, order: int, ridge: float, shrinkage: float, history: int) -> ARSettings:
        """As :func:`airlam.baselines.ar.ar_filters`."""
        return cls(effective_order(order, history), float(ridge), 0.0, -TINY, float(shrinkage))


def num_classes(wanted: int, bins: int) -> int:
    """Energy classes of :func:`airlam.baselines.eigen_ar.class_filters`."""
    return max(1, min(wanted, bins // 32))


class Series:
    """The AR part of an engine: from series to their classical prediction. ``future`` is scratch for one thread."""

    def __init__(self, kernels: ModuleType, shape: LinkShape, settings: ARSettings, bins: int):
        self.kernels, self.settings = kernels, settings
        self.future = np.zeros((2, shape.num_future, bins), np.float32)

    def predict(self, series: np.ndarray, products: np.ndarray, future: np.ndarray | None = None) -> np.ndarray:
        """Refit the AR filters to ``series [2, slot, bin]`` and roll them out, to ``future`` or to scratch."""
        future = self.future if future is None else future
        self.kernels.extrapolate(series, products, *self.settings, LIMIT, future)
        return future
