r"""Beams of a group of users in NumPy; :mod:`airlam.realtime.kernels.compiled_precoding` has the same, compiled.

All beams lie in the span of the users' rows (with white errors of CSI) or of these rows times one matrix: the systems
that are solved have the size of the group.

A round of WMMSE needs of the round before only two numbers of each user: :math:`d_k = |u_k|^2/\epsilon_k`, the weight
of its row, and :math:`1/\epsilon_k`, the power of its beam. :math:`u_k` is its receiver, :math:`\epsilon_k` its mean
square error. With :math:`D = diag(d)`, :math:`c = \sum_k d_k` and the Gram matrix :math:`G` of rows of unit noise,

.. math:: N = (D^{1/2} G D^{1/2} + c I)^{-1},\quad X = D^{1/2} N diag(\epsilon)^{-1/2}

are the coordinates of the new beams. What they do follows from :math:`N` alone: user :math:`k` receives
:math:`(\delta_{kj} - c N_{kj})(d_k\epsilon_j)^{-1/2}` of beam :math:`j`, which has the power
:math:`(N_{jj} - c\sum_k|N_{kj}|^2)/\epsilon_j`. These two numbers change slowly from slot to slot where beams turn with
the channel: they are what a warm start begins with, where their beams have a higher sum-rate than those of regularised
zero forcing. The result is never below the latter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TINY = 1e-30


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
    """Regularised zero forcing of equal powers, or ``rounds`` of WMMSE from it or from ``start``.

    Args:
        h: ``complex64 [slot, user, block, port]``, contiguous, one row for each block of tones.
        t: as ``h``: the rows times ``(I + C / (sum of noise))^-1`` with a covariance of errors ``C`` that all users
            share; where errors are white, ``h`` itself.
        noise: ``float64 [slot, user]``, of each user over ``power``; white errors of its CSI are part of it.
        rounds: of WMMSE; 0: regularised zero forcing.
        passed: slots by which this prediction is later than the last one.
        start: ``float64 [slot, 2, user, block]``, the weights of the last prediction; without slots: begin anew.
        duals: as ``start``, written if ``rounds`` is not 0. Not the same memory.
        w: ``complex64 [slot, tone, port, user]``, written; a whole number of tones in each block.
    """
    rows, turns = (x.transpose(0, 2, 1, 3) for x in (h, t))  # [slot, block, user, port]
    gram = (rows @ turns.conj().swapaxes(-1, -2)).astype(np.complex128)
    lower = np.tril(gram)  # as the compiled one, which reads no more: rounding makes the two triangles differ
    gram = lower + np.tril(lower, -1).conj().swapaxes(-1, -2)
    users, eye = h.shape[1], np.eye(h.shape[1])
    gram -= 1j * gram.imag * eye  # a diagonal is real
    total = noise.sum(1)[:, None, None, None]
    x = np.linalg.inv(gram + total * eye)
    if rounds:
        root = 1 / np.sqrt(noise)[:, None]  # [slot, 1, user]
        spent = np.diagonal(x, axis1=-2, axis2=-1).real - total[..., 0] * (np.abs(x) ** 2).sum(-2)
        level = np.where(spent > TINY, 1 / (users * np.maximum(spent, TINY)), 0)
        received = np.abs(eye - total * x) ** 2 * level[..., None, :] * root[..., None] ** 2
        gain, worth = weights(received, np.ones_like(level[..., :1]))
        gram = gram * root[..., None] * root[..., None, :]
        if len(start):
            later = np.minimum(np.arange(len(h)) + passed, len(h) - 1)
            last, before = (start[later, i].swapaxes(1, 2) for i in range(2))  # [slot, block, user]
            _, last, before = once(gram, root, last, before)
            better = np.log(before / worth).sum(-1, keepdims=True) > 0
            gain, worth = np.where(better, last, gain), np.where(better, before, worth)
        for _ in range(rounds):
            x, gain, worth = once(gram, root, gain, worth)
        duals[:, 0], duals[:, 1] = gain.swapaxes(1, 2), worth.swapaxes(1, 2)
    made = turns.conj().swapaxes(-1, -2) @ x.astype(np.complex64)
    norm = (np.abs(made) ** 2).sum(-2, keepdims=True)
    norm = norm.sum(-1, keepdims=True) if rounds else norm * users
    made *= np.sqrt(np.float32(power) / np.where(norm > 0, norm, 1))
    w[:] = np.repeat(made, w.shape[1] // h.shape[2], axis=1)


def once(gram: NDArray, root: NDArray, gain: NDArray, worth: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """A round of WMMSE: coordinates of the beams that the weights give, and the weights that these give."""
    load, half = gain.sum(-1)[..., None, None] + TINY, np.sqrt(gain)
    inverse = np.linalg.inv(gram * half[..., None] * half[..., None, :] + load * np.eye(gram.shape[-1]))
    x = inverse * (half * root)[..., None] * np.sqrt(worth)[..., None, :]
    energy = np.diagonal(inverse, axis1=-2, axis2=-1).real - load[..., 0] * (np.abs(inverse) ** 2).sum(-2)
    over = np.where(gain > TINY, 1 / np.maximum(gain, TINY), 0)[..., None]
    received = np.abs(np.eye(gram.shape[-1]) - load * inverse) ** 2 * worth[..., None, :] * over
    return x, *weights(received, np.maximum((energy * worth).sum(-1, keepdims=True), TINY))


def weights(received: NDArray, spent: NDArray) -> tuple[NDArray, NDArray]:
    """The two numbers of each user, from the powers that it receives ``[..., user, beam]`` and the power of all beams
    ``[..., 1]``."""
    own, seen = np.diagonal(received, axis1=-2, axis2=-1), received.sum(-1) + spent
    error = np.maximum(1 - own / seen, 1e-15)
    return own / (seen**2 * error), 1 / error
