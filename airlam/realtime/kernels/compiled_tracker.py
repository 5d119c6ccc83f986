"""The phase tracker (:mod:`airlam.models.phase_tracker`) of one link, compiled.

Correlations of neighbouring slots stay in the link's memory, so that a new slot costs its products with the slots
before it and no others.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.models.phase_tracker import BANDS, LAGS, MIXTURE, NUM_FACTS, PhaseTracker
from airlam.realtime.kernels.jit import kernel


class Tracker:
    """A trained :class:`~airlam.models.phase_tracker.PhaseTracker` for windows of ``history`` slots.

    Read-only after it is made, apart from the scratch of :meth:`update`, which is allocated by :meth:`scratch` for each
    thread.
    """

    def __init__(self, module: PhaseTracker, history: int):
        longest = module.slots
        filters = module.filters.detach().float().cpu().numpy().reshape(MIXTURE, longest, LAGS, longest)
        first = longest - history
        self.filters = np.ascontiguousarray(filters[:, first:, :, first:]).reshape(MIXTURE, history, LAGS * history)
        # weight and bias of the three layers
        self.layers = tuple(np.ascontiguousarray(x.detach().float().cpu().numpy()) for x in module.weigh.parameters())
        self.share = np.float32(history / longest)  # of the longest history

    @staticmethod
    def products(history: int, tones: int) -> np.ndarray:
        """Room for the correlations of a window, ``complex64 [band, lag, slot]``; lag 0 is power."""
        return np.zeros((min(BANDS, tones), LAGS + 1, history), np.complex64)

    @staticmethod
    def scratch(history: int) -> np.ndarray:
        """Room for one call of :meth:`update`."""
        return np.zeros((2, LAGS * history), np.float32)

    def update(self, slots: np.ndarray, new: int, products: np.ndarray, offsets: np.ndarray, work: np.ndarray) -> None:
        """Take the ``new`` newest of ``slots [slot, subcarrier, rx_ant, tx_ant]`` into ``products``, and write their
        phase and slope [rad] to ``offsets [2, slot]``; offsets of older slots move along."""
        flat = slots.reshape(len(slots), -1)
        update(flat, slots.shape[1], new, products, self.filters, *self.layers, self.share, offsets, work)


@kernel
def update(slots, tones, new, products, filters, weight1, bias1, weight2, bias2, weight3, bias3, share, offsets, phase):
    """Both steps of :meth:`Tracker.update`."""
    correlate(slots, tones, new, products)
    track(products, new, filters, weight1, bias1, weight2, bias2, weight3, bias3, share, offsets, phase)


@kernel
def correlate(slots, tones, new, products):
    """Move ``products [band, lag, slot]`` by ``new`` slots and fill in those of the newest."""
    history = slots.shape[0]
    bands, lags = products.shape[0], products.shape[1]
    width = tones // bands * (slots.shape[1] // tones)
    new = min(new, history)
    for band in range(bands):
        for lag in range(lags):
            for t in range(history - new):
                products[band, lag, t] = products[band, lag, t + new]
            for t in range(history - new, history):
                re = np.float32(0.0)
                im = np.float32(0.0)
                if t >= lag:
                    now = slots[t, band * width : (band + 1) * width]
                    then = slots[t - lag, band * width : (band + 1) * width]
                    for i in range(width):
                        x, y = now[i], then[i]
                        re += x.real * y.real + x.imag * y.imag
                        im += x.imag * y.real - x.real * y.imag
                products[band, lag, t] = complex(re, im)
            for t in range(min(lag, history)):  # the slot before has left the window
                products[band, lag, t] = 0.0


@kernel
def gelu_layer(x, weight, bias, out):
    for i in range(weight.shape[0]):
        total = bias[i]
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        out[i] = 0.5 * total * (1.0 + math.erf(total * 0.7071067811865476))


@kernel
def magnitude(x):
    """``|x|``; math.hypot guards against overflow, which costs more than all else here."""
    return math.sqrt(x.real * x.real + x.imag * x.imag)


@kernel
def increments(products, phase, facts, share):
    """Increments ``phase [2, lag * slot]`` and ``facts [2, fact]``, as ``PhaseTracker.observe``."""
    bands, history = products.shape[0], products.shape[2]
    lags = products.shape[1] - 1
    turn = np.empty(bands, np.complex64)
    level = np.zeros((2, 4), np.float32)
    spread = np.zeros(lags, np.float32)
    tiny = np.float32(1e-20)
    for lag in range(1, lags + 1):
        size = np.float32(0.0)
        power = np.float32(0.0)
        for band in range(bands):
            mean = np.complex64(0.0)
            for t in range(lag, history):
                mean += products[band, lag, t]
                power += math.sqrt(products[band, 0, t].real) * math.sqrt(products[band, 0, t - lag].real)
            absolute = magnitude(mean)
            size += absolute
            turn[band] = np.conj(mean) / absolute if absolute > 0 else np.complex64(0.0)
        spread[lag - 1] = 0.25 * math.log(max(np.float32(1.0001) - size / max(power, tiny), np.float32(1e-4)))
        for t in range(history):
            place = (lag - 1) * history + t
            if t < lag:
                phase[0, place] = 0.0
                phase[1, place] = 0.0
                continue
            common = np.complex64(0.0)
            for band in range(bands):
                common += products[band, lag, t] * turn[band]
            absolute = magnitude(common)
            back = np.conj(common) / absolute if absolute > 0 else np.complex64(0.0)
            above = np.float32(0.0)
            below = np.float32(0.0)
            for band in range(bands):
                centre = np.float32((band - 0.5 * (bands - 1)) * (2.0 / bands))
                c = products[band, lag, t] * turn[band]
                turned = c * back
                weight = magnitude(c) * centre
                above += weight * math.atan2(turned.imag, turned.real)
                below += weight * centre
            phase[0, place] = math.atan2(common.imag, common.real)
            phase[1, place] = above / max(below, tiny)
    for kind in range(2):
        for i, lag in enumerate((1, 2, 4)):
            for t in range(lag, history):
                level[kind, i] += phase[kind, (lag - 1) * history + t] ** 2
            level[kind, i] /= max(history - lag, 1)
        for t in range(1, history - 1):
            level[kind, 3] += (phase[kind, t + 1] - phase[kind, t]) ** 2
        level[kind, 3] /= max(history - 2, 1)
        for i in range(4):
            facts[kind, i] = 0.25 * math.log(level[kind, i] + np.float32(1e-8))
        facts[kind, 4] = spread[0]
        facts[kind, 5] = spread[1]
        facts[kind, 6] = spread[3]
        facts[kind, 7] = spread[5]
        facts[kind, 8] = share
        facts[kind, 9] = kind


@kernel
def track(products, new, filters, weight1, bias1, weight2, bias2, weight3, bias3, share, offsets, phase):
    """Offsets ``[2, slot]`` of the ``new`` newest slots, as ``PhaseTracker.offsets``; the others move along."""
    history = products.shape[2]
    new = min(new, history)
    facts = np.empty((2, NUM_FACTS), np.float32)
    increments(products, phase, facts, share)
    width = weight1.shape[0]
    first, second = np.empty(width, np.float32), np.empty(width, np.float32)
    for kind in range(2):
        for t in range(history - new):
            offsets[kind, t] = offsets[kind, t + new]
        for t in range(history - new, history):
            offsets[kind, t] = 0.0
        gelu_layer(facts[kind], weight1, bias1, first)
        gelu_layer(first, weight2, bias2, second)
        for mixed in range(filters.shape[0]):
            total = bias3[mixed]
            for j in range(width):
                total += weight3[mixed, j] * second[j]
            gate = np.float32(1.0) / (np.float32(1.0) + math.exp(-total))
            for t in range(history - new, history):
                each = np.float32(0.0)
                for j in range(filters.shape[2]):
                    each += filters[mixed, t, j] * phase[kind, j]
                offsets[kind, t] += gate * each
