"""Eigenvectors of a small real symmetric matrix, compiled: for sizes where calls of LAPACK cost more than they save.

Householder reflections to tridiagonal form, then implicit QL iterations whose rotations act on rows of the transposed
eigenvectors, so that every inner loop is a vector instruction.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.realtime.kernels.jit import STEP, kernel

SWEEPS = 40  # QL iterations for one eigenvalue; two are usual


@kernel
def reduce(a, d, e, turned):
    """Tridiagonal form ``T`` of ``a [n, width]`` (destroyed), whose columns from ``n`` on are zero: diagonal ``d``,
    ``e[1:]`` beside it, and ``turned [n, width]`` with ``a = turned T turned^T``.

    Loops run over whole rows, where entries of ``v`` and ``p`` are zero left of the part that is still to be reduced.
    """
    n, width = a.shape
    taus = np.zeros(n, np.float32)
    p = np.zeros(width, np.float32)
    v = np.zeros(width, np.float32)
    for k in range(n - 2):
        square = np.float32(0.0)
        for j in range(k + 2, n):
            square += a[k, j] * a[k, j]
        first = a[k, k + 1]
        d[k] = a[k, k]
        if square <= np.float32(1e-36):
            e[k + 1] = first
            continue
        size = math.sqrt(first * first + square)
        alpha = -size if first > 0 else size
        head = first - alpha
        tau = np.float32(2.0) / (head * head + square)
        a[k, k + 1] = head
        for j in range(width):
            v[j] = a[k, j] if j > k else np.float32(0.0)
        taus[k] = tau
        e[k + 1] = alpha
        add_rows(a, v, k + 1, p)
        dot = np.float32(0.0)
        for j in range(width):
            p[j] = tau * p[j] if j > k else np.float32(0.0)
            dot += p[j] * v[j]
        half = np.float32(0.5) * tau * dot
        for j in range(width):
            p[j] -= half * v[j]
        for i in range(k + 1, n):
            left, right = v[i], p[i]
            for j in range(width):
                a[i, j] -= left * p[j] + right * v[j]
    if n > 1:
        d[n - 2] = a[n - 2, n - 2]
        e[n - 1] = a[n - 2, n - 1]
    d[n - 1] = a[n - 1, n - 1]
    turned[:] = 0
    for i in range(n):
        turned[i, i] = 1.0
    for step in range(n - 2):
        k = n - 3 - step
        tau = taus[k]
        if tau == 0:
            continue
        for j in range(width):
            v[j] = a[k, j] if j > k else np.float32(0.0)
        add_rows(turned, v, k + 1, p)
        for i in range(k + 1, n):
            left = tau * v[i]
            for j in range(width):
                turned[i, j] -= left * p[j]


@kernel
def add_rows(a, v, first, p):
    """``p`` becomes the sum of the rows of ``a`` from ``first`` on, times ``v``. Four rows at a time: sums are loaded
    and stored less often."""
    n, width = a.shape
    for j in range(width):
        p[j] = 0.0
    i = first
    while i + 4 <= n:
        w, x, y, z = v[i], v[i + 1], v[i + 2], v[i + 3]
        for j in range(width):
            p[j] += (w * a[i, j] + x * a[i + 1, j]) + (y * a[i + 2, j] + z * a[i + 3, j])
        i += 4
    while i < n:
        w = v[i]
        for j in range(width):
            p[j] += w * a[i, j]
        i += 1


@kernel
def iterate(d, e, q):
    """Diagonalise: ``d`` become the eigenvalues, rows of ``q`` the eigenvectors. ``e[0]`` is not used."""
    n = d.shape[0]
    small = 6e-8
    for i in range(1, n):
        e[i - 1] = e[i]
    e[n - 1] = 0.0
    for low in range(n):
        for _ in range(SWEEPS):
            m = low
            while m < n - 1 and abs(e[m]) > small * (abs(d[m]) + abs(d[m + 1])):
                m += 1
            if m == low:
                break
            g = (d[low + 1] - d[low]) / (2.0 * e[low])
            r = math.sqrt(g * g + 1.0)
            g = d[m] - d[low] + e[low] / (g + (r if g >= 0 else -r))
            s, c, p = 1.0, 1.0, 0.0
            whole = True
            for step in range(m - low):
                i = m - 1 - step
                f, b = s * e[i], c * e[i]
                r = math.sqrt(f * f + g * g)
                e[i + 1] = r
                if r == 0.0:
                    d[i + 1] -= p
                    e[m] = 0.0
                    whole = False
                    break
                inverse = 1.0 / r
                s, c = f * inverse, g * inverse
                g = d[i + 1] - p
                r = (d[i] - g) * s + 2.0 * c * b
                p = s * r
                d[i + 1] = g + p
                g = c * r - b
                sine, cosine = np.float32(s), np.float32(c)
                for j in range(q.shape[1]):
                    x, y = q[i, j], q[i + 1, j]
                    q[i + 1, j] = sine * x + cosine * y
                    q[i, j] = cosine * x - sine * y
            if whole:
                d[low] -= p
                e[low] = g
                e[m] = 0.0


@kernel
def symmetric_eigenvectors(matrix, vectors):
    """Eigenvectors of ``matrix float32 [n, n]`` in the columns of ``vectors``, eigenvalues rising."""
    n = matrix.shape[0]
    width = (n + STEP - 1) // STEP * STEP
    largest = np.float32(0.0)
    for i in range(n):
        largest = max(largest, abs(matrix[i, i]))
    scale = np.float32(1.0) / largest if largest > 0 else np.float32(1.0)
    a = np.zeros((n, width), np.float32)
    for i in range(n):
        for j in range(n):
            a[i, j] = matrix[i, j] * scale
    d, e = np.zeros(n, np.float64), np.zeros(n, np.float64)
    turned = np.empty((n, width), np.float32)
    reduce(a, d, e, turned)
    for i in range(n):
        for j in range(n):
            a[i, j] = turned[j, i]
    iterate(d, e, a)
    order = np.argsort(d)
    for i in range(n):
        for j in range(n):
            vectors[j, i] = a[order[i], j]


@kernel
def fast_eigenvectors(tone, port, frequency, modes):
    """As :func:`airlam.realtime.kernels.compiled_basis.eigenvectors`, faster, and correct to 1e-5 of the largest
    eigenvalue rather than 1e-7: it mixes modes of noise with each other in another way."""
    symmetric_eigenvectors(tone, frequency)
    for p in range(port.shape[0]):
        symmetric_eigenvectors(port[p], modes[p])
