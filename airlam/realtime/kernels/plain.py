"""The kernels of :mod:`airlam.realtime.kernels.compiled` in NumPy and torch, with airlam's own functions.

For computers without numba, and the values that compiled kernels are tested against.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from airlam.baselines import eigen_ar
from airlam.baselines.ar import ar_filters
from airlam.models.doppler import wiener
from airlam.models.phase_tracker import PhaseTracker
from airlam.realtime.kernels.plain_paths import analyse, correlate, solve, spread  # noqa: F401
from airlam.realtime.kernels.plain_precoding import beams  # noqa: F401

F32 = np.float32


class Tracker:
    """See :class:`airlam.realtime.kernels.compiled_tracker.Tracker`."""

    def __init__(self, module: PhaseTracker, history: int):
        self.module = module

    @staticmethod
    def products(history: int, tones: int) -> np.ndarray:
        return np.zeros((0, 0, 0), np.complex64)

    @staticmethod
    def scratch(history: int) -> np.ndarray:
        return np.zeros((0, 0), F32)

    def update(self, slots: np.ndarray, new: int, products: np.ndarray, offsets: np.ndarray, work: np.ndarray) -> None:
        new = min(new, len(slots))
        with torch.inference_mode():
            covariance = self.module.covariance(torch.from_numpy(slots)[None])
            found = self.module.offsets(self.module.observe(covariance))[0].numpy()
        offsets[:, :-new] = offsets[:, new:].copy()
        offsets[:, -new:] = found[:, -new:]


def folded_axis(x: np.ndarray, axis: int) -> np.ndarray:
    """Fold one axis; see :mod:`airlam.realtime.kernels.compiled_basis`."""
    x = np.moveaxis(x, axis, 0)
    half, size = len(x) // 2, len(x)
    up, down = x[:half], x[size - half :][::-1]
    parts = [math.sqrt(0.5) * (up + down), -1j * math.sqrt(0.5) * (up - down), x[half : size - half]]
    return np.moveaxis(np.concatenate(parts), 0, axis)


def unfolded_axis(x: np.ndarray, axis: int) -> np.ndarray:
    """Inverse of :func:`folded_axis`."""
    x = np.moveaxis(x, axis, 0)
    half = len(x) // 2
    sums, rest = x[:half], 1j * x[half : 2 * half]
    parts = [math.sqrt(0.5) * (sums + rest), x[2 * half :], math.sqrt(0.5) * (sums - rest)[::-1]]
    return np.moveaxis(np.concatenate(parts), 0, axis)


def fold(slots: np.ndarray, offsets: np.ndarray, first: int, folded: np.ndarray) -> None:
    stop = first + folded.shape[2]
    tones = slots.shape[1]
    position = (np.arange(tones, dtype=F32) - (tones - 1) / 2) * (2 / tones)
    angle = offsets[0, first:stop, None] + position.astype(F32) * offsets[1, first:stop, None]
    x = slots[first:stop] * np.exp(-1j * angle)[..., None, None]
    x = x.reshape(*x.shape[:3], folded.shape[0], -1)  # [slot, subcarrier, rx_ant, polarisation, port]
    x = folded_axis(folded_axis(x, 1), 4).transpose(3, 1, 0, 2, 4)
    folded[:, :, :, 0], folded[:, :, :, 1] = x.real, x.imag


def covariances(folded: np.ndarray, tone: np.ndarray, port: np.ndarray) -> None:
    by_tone = folded.swapaxes(0, 1).reshape(folded.shape[1], -1)
    tone[:] = by_tone @ by_tone.T
    by_port = folded.reshape(len(folded), -1, folded.shape[-1])
    port[:] = by_port.swapaxes(1, 2) @ by_port


def update_covariances(entering: np.ndarray, leaving: np.ndarray, tone: np.ndarray, port: np.ndarray) -> None:
    for slots, sign in ((entering, 1), (leaving, -1)):
        of_tone, of_port = np.empty_like(tone), np.empty_like(port)
        covariances(slots, of_tone, of_port)
        tone += sign * of_tone
        port += sign * of_port


def eigenvectors(tone: np.ndarray, port: np.ndarray, frequency: np.ndarray, modes: np.ndarray) -> None:
    frequency[:] = np.linalg.eigh(tone)[1]
    modes[:] = np.linalg.eigh(port)[1]


fast_eigenvectors = eigenvectors


def project(
    folded: np.ndarray, frequency: np.ndarray, modes: np.ndarray, half: np.ndarray, coefficients: np.ndarray
) -> None:
    half[:] = folded @ modes[:, None, None, None]
    polarisations, tones = folded.shape[:2]
    coefficients[:] = (frequency.T @ half.reshape(polarisations, tones, -1)).reshape(folded.shape)


def energies(coefficients: np.ndarray, energy: np.ndarray) -> None:
    energy[:] = np.square(coefficients).sum((2, 3)).reshape(energy.shape)


def pick(energy: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
    index = torch.from_numpy(energy).flatten().topk(len(rows)).indices.numpy()
    rows[:], cols[:] = np.divmod(index, energy.shape[1])


def gather(coefficients: np.ndarray, oldest: int, rows: np.ndarray, cols: np.ndarray, series: np.ndarray) -> None:
    number = coefficients.shape[2]
    flat = coefficients.reshape(-1, number, 2, coefficients.shape[4] * coefficients.shape[5])
    kept = series.shape[1] - number
    series[:, :kept] = series[:, number:].copy()
    order = (oldest + np.arange(number)) % number
    series[:, kept:] = flat[rows, :, :, cols][:, order].transpose(2, 1, 0)


def exchange(ring: np.ndarray, place: int, entering: np.ndarray, leaving: np.ndarray) -> None:
    leaving[:, :, 0] = ring[:, :, place]
    ring[:, :, place] = entering[:, :, 0]


def hand_over(old_basis, old_ports, old_rows, old_cols, old_token, basis, ports, rows, cols, token) -> None:
    tones, width = len(basis), ports.shape[1]
    overlap = np.square(old_basis.T @ basis)[old_rows % tones][:, rows % tones]
    port_overlap = np.square(old_ports.swapaxes(1, 2) @ ports)[old_rows // tones]
    size = overlap * port_overlap[np.arange(len(old_rows))[:, None], (old_cols % width)[:, None], cols % width]
    same = (old_rows // tones)[:, None] == rows // tones
    same &= (old_cols // width)[:, None] == cols // width
    size = np.where(same, size, -1)
    token[:] = np.where(same.any(0), old_token[size.argmax(0)], old_token[-1])


def synthesise(
    future: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    frequency: np.ndarray,
    modes: np.ndarray,
    grid: np.ndarray,
    half: np.ndarray,
    out: np.ndarray,
) -> None:
    polarisations, tones, number, rx_ants, width = grid.shape
    bins = np.zeros((polarisations * tones, rx_ants * width // 2, number), np.complex64)
    bins[rows, cols] = (future[0] + 1j * future[1]).T
    x = frequency @ bins.reshape(polarisations, tones, -1)
    x = modes[:, None, None] @ x.reshape(polarisations, tones, rx_ants, width // 2, number)
    x = x.transpose(4, 1, 2, 0, 3)  # [slot, subcarrier, rx_ant, polarisation, port]
    out[:] = unfolded_axis(unfolded_axis(x, 1), 4).reshape(out.shape)


def append(slots, offsets, slot, frequency, modes, rows, cols, series, one) -> None:
    fold(slots, offsets, slot, one[0])
    project(one[0], frequency, modes, one[1], one[2])
    gather(one[2], 0, rows, cols, series)


def move(slots, offsets, slot, ring, place, tone, port, one) -> None:
    fold(slots, offsets, slot, one[0])
    exchange(ring, place, one[0], one[1])
    update_covariances(one[0], one[1], tone, port)


def renew(ring, oldest, tone, port, frequency, modes, rows, cols, series, half, coefficients, energy) -> None:
    eigenvectors(tone, port, frequency, modes)
    project(ring, frequency, modes, half, coefficients)
    energies(coefficients, energy)
    pick(energy, rows, cols)
    gather(coefficients, oldest, rows, cols, series)


def compare(value: np.ndarray, expected: np.ndarray, newest: np.ndarray) -> tuple[float, ...]:
    """Of three slots: the energy of each, real and imaginary part of ``expected^H value``, and the real part of
    ``newest^H value``."""
    both = complex(np.vdot(expected, value))
    energies = (float(np.vdot(x, x).real) for x in (value, expected, newest))
    return *energies, both.real, both.imag, float(np.vdot(newest, value).real)


def bound(future: np.ndarray, most: float) -> None:
    """Scale slots of more energy than ``most`` down to it."""
    for each in future:
        if (energy := float(np.vdot(each, each).real)) > most:
            each *= F32(math.sqrt(most / energy))


def as_tensor(series: np.ndarray) -> torch.Tensor:
    """``[2, slot, bin]`` -> ``complex64 [bin, slot]``."""
    return torch.from_numpy(np.ascontiguousarray((series[0] + 1j * series[1]).T))


def as_planes(series: torch.Tensor) -> np.ndarray:
    """``complex [bin, slot]`` -> ``float32 [2, slot, bin]``."""
    return np.stack([series.real.numpy().T, series.imag.numpy().T])


def multiply(series: np.ndarray, new: int, products: np.ndarray) -> None:
    classes = len(products)
    size = series.shape[2] // classes
    x = (series[0] + 1j * series[1])[:, : classes * size].reshape(-1, classes, size).swapaxes(0, 1)
    products[:] = x.conj() @ x.swapaxes(1, 2)


def ar_taps(series, products, order, ridge, relative, absolute, shrinkage, taps) -> None:
    """:func:`airlam.baselines.ar.ar_filters` where ``absolute`` is negative, else
    :func:`airlam.baselines.eigen_ar.class_filters`."""
    x = as_tensor(series)
    with torch.inference_mode():
        if absolute < 0:
            found = ar_filters(x, order, ridge, shrinkage).weights
        else:
            classes = len(products)
            found = eigen_ar.class_filters(x[None], order=order, ridge=ridge, num_classes=classes, shrinkage=shrinkage)[
                0
            ]
        taps[:] = as_planes(found)


def roll_out(series: np.ndarray, taps: np.ndarray, limit: float, future: np.ndarray) -> None:
    order, number = taps.shape[1], future.shape[1]
    x, w = series[0] + 1j * series[1], taps[0] + 1j * taps[1]
    most = F32(limit) * np.abs(x).max(0)
    recent = np.concatenate([x[len(x) - order :], np.empty((number, x.shape[1]), np.complex64)])
    for s in range(number):
        step = (recent[s : s + order] * w).sum(0)
        recent[order + s] = step * np.minimum(most / np.maximum(np.abs(step), F32(1e-30)), F32(1))
    future[0], future[1] = recent[order:].real, recent[order:].imag


def extrapolate(series, products, order, ridge, relative, absolute, shrinkage, limit, future) -> None:
    if series.shape[1] == 1:
        future[:] = series
        return
    taps = np.empty((2, order, series.shape[2]), F32)
    ar_taps(series, products, order, ridge, relative, absolute, shrinkage, taps)
    roll_out(series, taps, limit, future)


def predict(
    series,
    new,
    products,
    order,
    ridge,
    relative,
    absolute,
    shrinkage,
    limit,
    weights,
    token,
    gate,
    rows,
    cols,
    frequency,
    modes,
    grid,
    half,
    future,
    out,
) -> None:
    """See :func:`airlam.realtime.kernels.compiled_push.predict`; ``products`` are not needed here."""
    extrapolate(series, products, order, ridge, relative, absolute, shrinkage, limit, future)
    blend(series, weights, token, gate, future)
    synthesise(future, rows, cols, frequency, modes, grid, half, out)


def blend(series: np.ndarray, weights: np.ndarray, token: np.ndarray, gate: np.ndarray, future: np.ndarray) -> None:
    x = (series[0] + 1j * series[1]).T[..., None]
    w = weights[:, 0] + 1j * weights[:, 1]
    filtered = (w[token] @ x)[..., 0].T
    start = future[0] + 1j * future[1]
    mixed = start + gate[token] * (filtered - start)
    future[0], future[1] = mixed.real, mixed.imag


def wiener_filters(power: np.ndarray, noise: np.ndarray, weights: np.ndarray) -> None:
    """See :func:`airlam.realtime.kernels.compiled_wiener.wiener_filters`."""
    targets, history = weights.shape[2:]
    ahead = torch.arange(history, history + targets)
    with torch.inference_mode():
        found = wiener(torch.from_numpy(power), torch.from_numpy(noise), history, ahead)[0].resolve_conj().numpy()
    weights[:, 0], weights[:, 1] = found.real, found.imag


def periodograms(series: np.ndarray, correlators: np.ndarray, singles: int, size: int, spectrum: np.ndarray) -> None:
    bins, grid = series.shape[2], spectrum.shape[1]
    samples = series.reshape(-1, bins)
    power = np.square(correlators @ samples)
    power = power[:grid] + power[grid:]
    power /= np.maximum(series.shape[1] * np.square(samples).sum(0), np.finfo(F32).tiny)
    spectrum[:singles] = power[:, :singles].T
    if len(spectrum) > singles:
        spectrum[singles:] = power[:, singles:].reshape(grid, -1, size).mean(2).T


def show(
    series: np.ndarray, start: np.ndarray, first: np.ndarray, amplitude: np.ndarray, own: np.ndarray, ahead: np.ndarray
) -> None:
    x, y = (((z[0][:, first] + 1j * z[1][:, first]) / amplitude).T for z in (series, start))
    last = x[:, -1:]
    turn = np.where(last == 0, 1, last.conj() / np.maximum(np.abs(last), np.finfo(F32).tiny))
    own[:, 0::2], own[:, 1::2] = (x * turn).real, (x * turn).imag
    y = (y * turn)[:, : ahead.shape[1] // 2]
    ahead[:, 0::2], ahead[:, 1::2] = np.clip(y.real, -4, 4), np.clip(y.imag, -4, 4)
