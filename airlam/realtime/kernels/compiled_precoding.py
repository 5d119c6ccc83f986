"""Beams of a group of users, compiled; see :mod:`airlam.realtime.kernels.plain_precoding` for what is computed.

Sums over antennas run over real numbers, contiguous in memory; systems of the size of the group are solved in double
precision, neighbouring tones side by side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from airlam.realtime.kernels.jit import kernel

TOGETHER = 16  # tones that are solved side by side
TINY = 1e-30


@kernel
def beams(
    h: NDArray,
    t: NDArray,
    noise: NDArray,
    power: float,
    rounds: int,
    passed: int,
    start: NDArray,
    duals: NDArray,
    w: NDArray,
) -> None:
    slots, users, tones, ports = h.shape
    width, share = min(tones, TOGETHER), w.shape[1] // tones
    rows, turns = h.view(np.float32), t.view(np.float32)
    turned = np.empty((width, users, 2 * ports), np.float32)
    columns = np.empty((users, 2 * ports), np.float32)
    gram = np.empty((users, users, 2, width))
    system, lower, inverse = np.empty_like(gram), np.empty_like(gram), np.empty_like(gram)
    gain, worth, load = np.empty((users, width)), np.empty((users, width)), np.empty(width)
    before, last = np.empty_like(gain), np.empty_like(gain)
    root = np.empty(users)
    for slot in range(slots):
        later = min(slot + passed, slots - 1)
        total = 0.0
        for k in range(users):
            total += noise[slot, k]
            root[k] = 1 / math.sqrt(noise[slot, k])
        for step in range(0, tones, width):
            first = min(step, tones - width)
            products(rows[slot], turns[slot], first, turned, gram)
            load[:] = total
            system[:] = gram
            invert(system, load, lower, inverse)
            if rounds:
                after_rzf(inverse, total, root, gain, worth)
                for k in range(users):
                    for j in range(k + 1):
                        scale = root[k] * root[j]
                        for b in range(width):
                            gram[k, j, 0, b] *= scale
                            gram[k, j, 1, b] *= scale
                if start.shape[0]:
                    before[:] = start[later, 0, :, first : first + width]
                    last[:] = start[later, 1, :, first : first + width]
                    weigh(gram, before, load, system)
                    invert(system, load, lower, inverse)
                    after_round(inverse, load, before, last)
                    take_better(before, last, gain, worth)
            else:
                worth[:] = 1.0
            for _ in range(rounds):
                weigh(gram, gain, load, system)
                invert(system, load, lower, inverse)
                for k in range(users):  # coordinates of the beams, whose noise is still that of the users
                    for j in range(users):
                        for b in range(width):
                            scale = math.sqrt(gain[k, b] * worth[j, b]) * root[k]
                            system[k, j, 0, b] = inverse[k, j, 0, b] * scale
                            system[k, j, 1, b] = inverse[k, j, 1, b] * scale
                after_round(inverse, load, gain, worth)
            if rounds:
                for k in range(users):
                    for b in range(width):
                        duals[slot, 0, k, first + b] = gain[k, b]
                        duals[slot, 1, k, first + b] = worth[k, b]
            coordinates = system if rounds else inverse
            for b in range(width):
                combine(turns[slot, :, first + b], turned[b], coordinates, b, power, rounds == 0, columns)
                for k in range(users):
                    for tone in range((first + b) * share, (first + b + 1) * share):
                        for port in range(ports):
                            w[slot, tone, port, k] = complex(columns[k, 2 * port], -columns[k, 2 * port + 1])


@kernel
def products(rows: NDArray, turns: NDArray, first: int, turned: NDArray, gram: NDArray) -> None:
    """``gram[k, j] = h_k t_j^H`` of some tones, lower triangle, and ``turned``, ``t`` times the imaginary unit."""
    width, users, reals = turned.shape
    for b in range(width):
        for k in range(users):
            wave, turn, row = turns[k, first + b], turned[b, k], rows[k, first + b]
            for port in range(0, reals, 2):
                turn[port], turn[port + 1] = -wave[port + 1], wave[port]
            for j in range(k + 1):
                other, third = turns[j, first + b], turned[b, j]
                real, imag = np.float32(0), np.float32(0)
                for port in range(reals):
                    real += row[port] * other[port]
                    imag += row[port] * third[port]
                gram[k, j, 0, b], gram[k, j, 1, b] = real, imag


@kernel
def invert(system: NDArray, load: NDArray, lower: NDArray, inverse: NDArray) -> None:
    """``inverse`` of Hermitian matrices ``system + load I``, of which the lower triangle is given; it is overwritten by
    their Cholesky factors, ``lower`` by the inverses of these."""
    users, width = system.shape[0], system.shape[3]
    for j in range(users):
        for b in range(width):
            system[j, j, 0, b] += load[b]
        for p in range(j):
            for i in range(j, users):
                for b in range(width):
                    x, y, u, v = system[i, p, 0, b], system[i, p, 1, b], system[j, p, 0, b], system[j, p, 1, b]
                    system[i, j, 0, b] -= x * u + y * v
                    system[i, j, 1, b] -= y * u - x * v
        for b in range(width):  # the inverse of the pivot; rounding must not make it negative
            lower[j, j, 0, b] = 1 / math.sqrt(max(system[j, j, 0, b], 1e-14 * load[b] + TINY * TINY))
        for i in range(j + 1, users):
            for b in range(width):
                system[i, j, 0, b] *= lower[j, j, 0, b]
                system[i, j, 1, b] *= lower[j, j, 0, b]
    for j in range(users):
        for i in range(j + 1, users):
            for b in range(width):
                lower[i, j, 0, b] = -system[i, j, 0, b] * lower[j, j, 0, b]
                lower[i, j, 1, b] = -system[i, j, 1, b] * lower[j, j, 0, b]
            for p in range(j + 1, i):
                for b in range(width):
                    x, y, u, v = system[i, p, 0, b], system[i, p, 1, b], lower[p, j, 0, b], lower[p, j, 1, b]
                    lower[i, j, 0, b] -= x * u - y * v
                    lower[i, j, 1, b] -= x * v + y * u
            for b in range(width):
                lower[i, j, 0, b] *= lower[i, i, 0, b]
                lower[i, j, 1, b] *= lower[i, i, 0, b]
    for i in range(users):
        for j in range(i):
            for b in range(width):  # row i of the lower inverse meets its real pivot
                inverse[i, j, 0, b] = lower[i, i, 0, b] * lower[i, j, 0, b]
                inverse[i, j, 1, b] = lower[i, i, 0, b] * lower[i, j, 1, b]
            for p in range(i + 1, users):
                for b in range(width):
                    x, y, u, v = lower[p, i, 0, b], lower[p, i, 1, b], lower[p, j, 0, b], lower[p, j, 1, b]
                    inverse[i, j, 0, b] += x * u + y * v
                    inverse[i, j, 1, b] += x * v - y * u
            for b in range(width):
                inverse[j, i, 0, b] = inverse[i, j, 0, b]
                inverse[j, i, 1, b] = -inverse[i, j, 1, b]
        for b in range(width):
            inverse[i, i, 0, b] = lower[i, i, 0, b] ** 2
            inverse[i, i, 1, b] = 0.0
        for p in range(i + 1, users):
            for b in range(width):
                inverse[i, i, 0, b] += lower[p, i, 0, b] ** 2 + lower[p, i, 1, b] ** 2


@kernel
def weigh(gram: NDArray, gain: NDArray, load: NDArray, system: NDArray) -> None:
    """The system of a round of WMMSE."""
    users, width = gain.shape
    load[:] = TINY
    for k in range(users):
        for b in range(width):
            load[b] += gain[k, b]
    for k in range(users):
        for j in range(k + 1):
            for b in range(width):
                both = math.sqrt(gain[k, b] * gain[j, b])
                system[k, j, 0, b] = gram[k, j, 0, b] * both
                system[k, j, 1, b] = gram[k, j, 1, b] * both


@kernel
def take_better(before: NDArray, last: NDArray, gain: NDArray, worth: NDArray) -> None:
    """The weights of the last slot where their beams have a higher sum-rate now."""
    users, width = gain.shape
    for b in range(width):
        ahead = 0.0
        for k in range(users):
            ahead += math.log(last[k, b] / worth[k, b])
        if ahead > 0:
            for k in range(users):
                gain[k, b], worth[k, b] = before[k, b], last[k, b]


@kernel
def after_rzf(inverse: NDArray, total: float, root: NDArray, gain: NDArray, worth: NDArray) -> None:
    """Weights of WMMSE from the beams of equal power of regularised zero forcing."""
    users, width = gain.shape
    level = np.empty((users, width))
    for k in range(users):
        for b in range(width):
            spent = inverse[k, k, 0, b]
            for j in range(users):
                spent -= total * (inverse[j, k, 0, b] ** 2 + inverse[j, k, 1, b] ** 2)
            level[k, b] = 1 / (users * spent) if spent > TINY else 0.0
    for k in range(users):
        for b in range(width):
            own, seen = 0.0, 1.0
            for j in range(users):
                real = (1.0 if j == k else 0.0) - total * inverse[k, j, 0, b]
                power = (real**2 + (total * inverse[k, j, 1, b]) ** 2) * level[j, b] * root[k] ** 2
                seen += power
                own = power if j == k else own
            remember(own, seen, gain, worth, k, b)


@kernel
def after_round(inverse: NDArray, load: NDArray, gain: NDArray, worth: NDArray) -> None:
    """Weights of WMMSE from the beams of its last round, which came from the weights before."""
    users, width = gain.shape
    spent = np.zeros(width)
    for k in range(users):
        for b in range(width):
            each = inverse[k, k, 0, b]
            for j in range(users):
                each -= load[b] * (inverse[j, k, 0, b] ** 2 + inverse[j, k, 1, b] ** 2)
            spent[b] += each * worth[k, b]
    before = worth.copy()
    for k in range(users):
        for b in range(width):
            own, seen = 0.0, max(spent[b], TINY)
            scale = 1 / gain[k, b] if gain[k, b] > TINY else 0.0
            for j in range(users):
                real = (1.0 if j == k else 0.0) - load[b] * inverse[k, j, 0, b]
                power = (real**2 + (load[b] * inverse[k, j, 1, b]) ** 2) * before[j, b] * scale
                seen += power
                own = power if j == k else own
            remember(own, seen, gain, worth, k, b)


@kernel
def remember(own: float, seen: float, gain: NDArray, worth: NDArray, k: int, b: int) -> None:
    """The weights of a user who receives ``own`` of ``seen``."""
    error = max(1 - own / seen, 1e-15)
    gain[k, b] = own / (seen * seen * error)
    worth[k, b] = 1 / error


@kernel
def combine(
    waves: NDArray, turned: NDArray, coordinates: NDArray, b: int, power: float, equal: bool, columns: NDArray
) -> None:
    """Conjugates of the beams of one tone, scaled to the power."""
    users, reals = columns.shape
    columns[:] = 0
    total = 0.0
    for k in range(users):
        column = columns[k]
        for j in range(users):
            x, y = np.float32(coordinates[j, k, 0, b]), np.float32(-coordinates[j, k, 1, b])
            wave, turn = waves[j], turned[j]
            for port in range(reals):
                column[port] += x * wave[port] + y * turn[port]
        norm = np.float32(0)
        for port in range(reals):
            norm += column[port] * column[port]
        total += norm
        if equal and norm > 0:
            scale = np.float32(math.sqrt(power / (users * norm)))
            for port in range(reals):
                column[port] *= scale
    if not equal and total > 0:
        scale = np.float32(math.sqrt(power / total))
        for k in range(users):
            column = columns[k]
            for port in range(reals):
                column[port] *= scale
