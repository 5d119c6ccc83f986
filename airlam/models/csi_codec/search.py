"""How a user finds its report: beams, phases of the subbands, sizes that cost few bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airlam.models.csi_codec.contexts import SIZES, STEPS, Places
from airlam.models.csi_codec.grid import ESCAPE_BITS, LARGEST, PHASE_BITS, PHASES, points, step_size
from airlam.models.csi_codec.sizes import SizeModel

TINY = 1e-30
PRICE = 0.12  # of a bit, in squared steps: 0.08 and 0.17 are no better on the whole


@dataclass(frozen=True)
class Effort:
    """``candidates``: groups and turns that are tried. ``steps``, ``prices``: rounds for the step and for the price."""

    candidates: int = 4
    steps: int = 8
    prices: int = 8


def coefficients(x: NDArray, place: Places) -> NDArray:
    """``complex [coefficient, trial]`` in the order of coding."""
    return np.fft.fft(x, axis=-1, norm="ortho").reshape(len(x), -1).T[place.order]


def beams_of(told: NDArray, place: Places) -> NDArray:
    """The inverse of :func:`coefficients`."""
    flat = np.empty_like(told)
    flat[place.order] = told
    return np.fft.ifft(flat.T.reshape(-1, *place.shape), axis=-1, norm="ortho")


def fit(x: NDArray, told: NDArray) -> tuple[NDArray, NDArray]:
    """SGCS of each trial, and ``x`` with its subbands turned towards what is told."""
    match = (told.conj() * x).sum((1, 2, 3))  # [trial, subband]
    power = np.maximum((np.abs(told) ** 2).sum((1, 2, 3)), TINY)
    own = np.maximum((np.abs(x) ** 2).sum((1, 2, 3)), TINY)
    size = np.abs(match)
    turn = np.where(size > TINY, match.conj() / np.maximum(size, TINY), 1)
    return (size**2 / (power * own)).mean(-1), x * turn[:, None, None, None]


def quantised(c: NDArray, step: NDArray, cost: NDArray | None, price: NDArray) -> tuple[NDArray, NDArray]:
    """Sizes and phases of least error plus price times bits.

    Args:
        c: ``complex [coefficient, trial]``. cost: bits ``[coefficient, trial, SIZES]``; None: a guess.
        price: ``[trial]`` of a bit, in squared steps.
    """
    z = c / step_size(step)
    size = np.abs(z)
    nearest = np.minimum(np.round(size).astype(np.int64), LARGEST)
    best_size, best_phase = np.zeros_like(nearest), np.zeros_like(nearest)
    best_cost = np.full(z.shape, np.inf)
    turn = np.angle(z) / (2 * np.pi)
    for trial in (nearest, np.maximum(nearest - 1, 0), np.zeros_like(nearest)):
        count = PHASES[trial]
        phase = np.round(turn * count).astype(np.int64) % count
        phase[0] = 0  # a phase of the whole report does not count
        bits = PHASE_BITS[trial] + ESCAPE_BITS[trial]
        if cost is None:
            bits = bits + 3.0 * (trial > 0)
        else:
            bits = bits + np.take_along_axis(cost, np.minimum(trial, SIZES - 1)[..., None], -1)[..., 0]
        total = np.abs(z - points(trial, phase)) ** 2 + price * bits
        lower = total < best_cost
        best_cost = np.where(lower, total, best_cost)
        best_size, best_phase = np.where(lower, trial, best_size), np.where(lower, phase, best_phase)
    return best_size, best_phase


def size_costs(model: SizeModel, place: Places, sizes: NDArray, step: NDArray) -> NDArray:
    """Bits ``[coefficient, trial, SIZES]`` of every size, given the others."""
    f = model.frequencies(place.features(sizes, step))
    return np.log2(f.sum(-1, keepdims=True)) - np.log2(f)


def bits_of(cost: NDArray, sizes: NDArray) -> NDArray:
    """Bits of each trial's coefficients, ``[trial]``."""
    told = np.take_along_axis(cost, np.minimum(sizes, SIZES - 1)[..., None], -1)[..., 0]
    rest = PHASE_BITS[sizes] + ESCAPE_BITS[sizes]
    rest[0] = ESCAPE_BITS[sizes[0]]
    return (told + rest).sum(0)


def starts(v: NDArray, groups: NDArray, port_shape: tuple[int, ...]) -> NDArray:
    """Beams of every group, their subbands turned in two ways, ``[link, 2 group, polarisation, column, row, subband]``.

    Args:
        v: ``complex [link, subband, port]``. groups: ``[group, port, beam]``, orthonormal beams of one polarisation.
    """
    links, subbands = v.shape[:2]
    v = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), TINY) / np.sqrt(subbands)
    folded = v.swapaxes(1, 2).reshape(links, 1, port_shape[0], -1, subbands)
    x = groups.conj().swapaxes(1, 2)[None, :, None] @ folded
    x = x.reshape(-1, *port_shape, subbands)
    step = np.angle((x[..., 1:].conj() * x[..., :-1]).sum((1, 2, 3))).cumsum(-1)
    smooth = x * np.exp(1j * np.pad(step, ((0, 0), (1, 0))))[:, None, None, None]
    flat = x.reshape(len(x), -1, subbands)
    peak = flat[np.arange(len(x)), (np.abs(flat) ** 2).sum(-1).argmax(-1)]
    turned = x * (peak.conj() / np.maximum(np.abs(peak), TINY))[:, None, None, None]
    return np.stack([smooth, turned], 1).reshape(links, -1, *port_shape, subbands)


def rolled(x: NDArray) -> tuple[NDArray, NDArray]:
    """``x`` with its strongest coefficient first, and the place ``[trial]`` where its beam was. A common delay only
    turns phases of subbands, which do not count."""
    trials, *shape, subbands = x.shape
    strongest = np.abs(np.fft.fft(x, axis=-1)).reshape(trials, -1).argmax(-1)
    *place, delay = np.unravel_index(strongest, (*shape, subbands))
    x = x * np.exp(-2j * np.pi / subbands * delay[:, None] * np.arange(subbands))[:, None, None, None]
    p, c, r = (
        ((np.arange(n) + at[:, None]) % n).reshape(trials, *(n if axis == k else 1 for k in range(3)))
        for axis, (n, at) in enumerate(zip(shape, place, strict=True))
    )
    trial = np.arange(trials).reshape(-1, 1, 1, 1)
    return x[trial, p, c, r], np.asarray(np.ravel_multi_index(place, shape))


def first_step(budget: float) -> int:
    """About the step that so many bits pay."""
    return int(np.clip(round(2 + 5.6 * np.log2(max(budget, 8) / 32)), 0, STEPS - 1))


@dataclass
class Found:
    """What a search found, one a link: ``group``, ``main`` (beam of the strongest coefficient) and ``step [link]``,
    ``sizes`` and ``phases [coefficient, link]``, ``score [link]``, the SGCS (-1: nothing fits the budget)."""

    group: NDArray
    main: NDArray
    step: NDArray
    sizes: NDArray
    phases: NDArray
    score: NDArray


def search(v: NDArray, budget: float, model: SizeModel, place: Places, groups: NDArray, effort: Effort) -> Found:
    """The best report of each link whose coefficients take at most ``budget`` bits.

    The groups and turns with the lowest sum of ``log2(1 + power / step^2)`` are tried. Each trial quantises at the
    price of bits that the last round's contexts give, and turns its subbands towards what is told; steps move to the
    budget first, then the price of a bit.
    """
    links, port_shape = len(v), place.shape[:3]
    y = starts(v, groups, port_shape)
    step = np.full(links, first_step(budget))
    power = np.abs(np.fft.fft(y, axis=-1, norm="ortho")) ** 2
    chosen = np.argsort(np.log2(1 + power / step_size(step[0]) ** 2).sum((2, 3, 4, 5)), 1)[:, : effort.candidates]
    count = chosen.shape[1]
    x, main = rolled(y[np.arange(links)[:, None], chosen].reshape(links * count, *y.shape[2:]))
    step, price = np.repeat(step, count), np.full(len(x), PRICE)
    low, high = np.log(price / 4), np.log(price * 4)
    cost = best = None
    for k in range(effort.steps + effort.prices):
        sizes, phases = quantised(coefficients(x, place), step, cost, price)
        cost = size_costs(model, place, sizes, step)
        bits = bits_of(cost, sizes)
        score, x = fit(x, beams_of(points(sizes, phases) * step_size(step), place))
        score = np.where(bits <= budget, score, -1)
        best = _better(best, Found(chosen.reshape(-1) // 2, main, step, sizes, phases, score))
        if 2 <= k < effort.steps - 2:
            change = np.round(2.8 * np.log2(budget / np.maximum(bits, 1))).astype(np.int64)
            step = np.clip(step + change, 0, STEPS - 1)
        elif k >= effort.steps - 1:
            low, high = np.where(bits > budget, np.log(price), low), np.where(bits > budget, high, np.log(price))
            price = np.exp((low + high) / 2)
    assert best is not None
    at = best.score.reshape(links, count).argmax(1) + count * np.arange(links)
    return Found(*(getattr(best, name)[..., at] for name in ("group", "main", "step", "sizes", "phases", "score")))


def _better(best: Found | None, trial: Found) -> Found:
    if best is None:
        return trial
    higher = trial.score > best.score
    names = ("group", "main", "step", "sizes", "phases", "score")
    return Found(*(np.where(higher, getattr(trial, name), getattr(best, name)) for name in names))
