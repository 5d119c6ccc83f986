"""What the network sees of one link, in NumPy: the features of :func:`airlam.models.tokens.make_tokens`."""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from airlam.models.config import AirlamConfig
from airlam.models.doppler import phasors
from airlam.models.tokens import NUM_SCALARS, START_SLOTS


class Features(NamedTuple):
    """Inputs of the network, with an axis of one link in front.

    Attributes:
        features: ``float32 [1, token, feature]``.
        log_periodogram: ``float32 [1, token, grid]``.
        noise: ``float32 [1, token]``.
    """

    features: np.ndarray
    log_periodogram: np.ndarray
    noise: np.ndarray


def token_counts(config: AirlamConfig, num_bins: int) -> tuple[int, int]:
    """Single tokens and groups of a link of ``num_bins`` coefficients."""
    singles = min(config.num_tokens, num_bins)
    return singles, min(config.num_groups, (num_bins - singles) // config.group_size)


def token_of_bins(config: AirlamConfig, num_bins: int) -> np.ndarray:
    """Token of each kept bin, strongest first: ``int32 [bin]``."""
    singles, groups = token_counts(config, num_bins)
    grouped = singles + np.arange(groups * config.group_size) // config.group_size
    return np.concatenate([np.arange(singles), grouped]).astype(np.int32)


@functools.lru_cache(maxsize=32)
def correlators(grid: int, slots: int) -> np.ndarray:
    """``float32 [2 * grid, 2 * slot]``: from series, real parts of all slots first, to their response at each frequency
    of the grid, in the same order."""
    turn = phasors(grid, 0, slots).numpy().conj()
    return np.ascontiguousarray(np.block([[turn.real, -turn.imag], [turn.imag, turn.real]]).astype(np.float32))


def means(x: np.ndarray, singles: int, size: int) -> np.ndarray:
    """``[bin, ...]`` -> ``[token, ...]``: the single ones, and the mean of each group."""
    if len(x) == singles:
        return x
    return np.concatenate([x[:singles], x[singles:].reshape(-1, size, *x.shape[1:]).mean(1)])


def make_features(
    kernels: ModuleType,
    config: AirlamConfig,
    series: np.ndarray,
    start: np.ndarray,
    energy: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    shape: tuple[int, int, int],
    filled: int,
) -> Features:
    """Features of one link of any scale.

    Args:
        series: ``float32 [2, slot, bin]``, the kept bins, strongest first.
        start: ``float32 [2, slot, bin]``, their classical prediction, ``START_SLOTS`` slots or more.
        energy: ``float32 [row, col]`` of all bins over the slots.
        rows, cols: ``int32 [bin]``, where the kept ones are.
        shape: subcarriers, receive antennas, ports of a polarisation.
        filled: bins that a history of this length can fill, see :func:`airlam.models.tokens.filled_bins`.
    """
    tones, rx_ants, ports = shape
    slots, num_bins = series.shape[1], energy.size
    singles, groups = token_counts(config, num_bins)
    size, grid, longest = config.group_size, config.doppler_grid, config.max_history  # looked up slowly: once
    unit = float(energy.sum(dtype=np.float64)) / (slots * num_bins)
    every = energy.reshape(-1) * np.float32(1 / (slots * unit) if unit > 0 else 1.0)  # mean power, the link's is 1
    weaker = max(1, filled // 2)
    lowest = weaker + num_bins - filled
    floor = float(np.partition(every, lowest - 1)[:lowest].mean()) * (lowest / weaker) + 1e-9
    power = np.maximum(every[rows * np.int64(energy.shape[1]) + cols], np.float32(1e-12))
    noise = np.clip(np.float32(floor) / power, np.float32(1e-6), np.float32(1.0))
    level = 0.5 * np.log(power)
    ranks = np.stack([np.log1p(ports - 1 - cols % ports), np.log1p(tones - 1 - rows % tones)]).astype(np.float32)
    facts = means(np.stack([noise, level, *ranks], -1), singles, size)
    noise, level = np.ascontiguousarray(facts[:, 0]), facts[:, 1]

    log_periodogram = np.empty((len(noise), grid), np.float32)
    kernels.periodograms(series, correlators(grid, slots), singles, size, log_periodogram)
    log_periodogram += (np.float32(0.1 / slots) * noise + np.float32(1e-4))[:, None]
    np.log(log_periodogram, out=log_periodogram)

    first = np.arange(singles + groups)
    first = np.where(first < singles, first, singles + (first - singles) * size)
    amplitude = np.sqrt(power[first] * np.float32(unit if unit > 0 else 1.0))
    own = np.empty((len(first), 2 * slots), np.float32)
    ahead = np.empty((len(first), 2 * START_SLOTS), np.float32)
    kernels.show(series, start, first, amplitude, own, ahead)
    width = 2 * longest + 2 * START_SLOTS + grid + NUM_SCALARS
    out = np.zeros((1, len(first), width), np.float32)
    begin = 2 * (longest - slots)
    stop = 2 * longest
    out[0, :, begin:stop] = own
    out[0, :, stop : stop + 2 * START_SLOTS] = ahead
    stop += 2 * START_SLOTS
    out[0, :, stop : stop + grid] = 0.25 * log_periodogram + 1.0
    scalars = out[0, :, stop + grid :]
    scalars[:, 0] = -0.25 * np.log(noise)
    scalars[:, 1] = level
    scalars[:, 2] = level - level[0]
    scalars[:, 3:5] = facts[:, 2:4]
    scalars[:, 5] = math.log(ports)
    scalars[:, 6] = math.log(tones)
    scalars[:, 7] = slots / longest
    scalars[:, 8] = 1.0
    scalars[:, 9] = np.arange(len(first)) >= singles
    return Features(out, log_periodogram[None], noise[None])
