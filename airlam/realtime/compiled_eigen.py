"""Eigenvectors of a small real symmetric matrix, compiled: for sizes where calls of LAPACK cost more than they save.

Householder reflections to tridiagonal form, then implicit QL iterations whose rotations act on rows of the transposed
eigenvectors, so that every inner loop is a vector instruction.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.realtime.jit import kernel

SWEEPS = 40  # QL iterations for one eigenvalue; two are usual


@kernel
def reduce(a, d, e, q):
    """Tridiagonal form of ``a [n, n]`` (destroyed): diagonal ``d``, ``e[1:]`` beside it; ``a = q^T T q``."""
    n = a.shape[0]
    taus = np.zeros(n, np.float32)
    p = np.zeros(n, np.float32)
    v = np.zeros(n, np.float32)
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
        v[: k + 1] = 0.0
        for j in range(k + 1, n):
            v[j] = a[k, j]
        taus[k] = tau
        e[k + 1] = alpha
        dot = np.float32(0.0)
        np.dot(a, v, p)  # zeros of v leave the rows and columns out that are done
        for j in range(k + 1, n):
            p[j] *= tau
            dot += p[j] * v[j]
        half = np.float32(0.5) * tau * dot
        for j in range(k + 1, n):
            p[j] -= half * v[j]
        for i in range(k + 1, n):
            left, right = v[i], p[i]
            for j in range(k + 1, n):
                a[i, j] -= left * p[j] + right * v[j]
    if n > 1:
        d[n - 2] = a[n - 2, n - 2]
        e[n - 1] = a[n - 2, n - 1]
    d[n - 1] = a[n - 1, n - 1]
    for i in range(n):
        for j in range(n):
            q[i, j] = 1.0 if i == j else 0.0
    for step in range(n - 2):
        k = n - 3 - step
        tau = taus[k]
        if tau == 0:
            continue
        v[: k + 1] = 0.0
        for j in range(k + 1, n):
            v[j] = a[k, j]
        np.dot(q, v, p)
        for i in range(k + 1, n):  # the rows before are still those of the identity
            left = tau * p[i]
            for j in range(k + 1, n):
                q[i, j] -= left * v[j]


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
    a = matrix.copy()
    largest = np.float32(0.0)
    for i in range(n):
        largest = max(largest, abs(a[i, i]))
    scale = np.float32(1.0) / largest if largest > 0 else np.float32(1.0)
    for i in range(n):
        for j in range(n):
            a[i, j] *= scale
    d, e = np.zeros(n, np.float64), np.zeros(n, np.float64)
    q = np.empty((n, n), np.float32)
    reduce(a, d, e, q)
    iterate(d, e, q)
    order = np.argsort(d)
    for i in range(n):
        for j in range(n):
            vectors[j, i] = q[order[i], j]


@kernel
def fast_eigenvectors(tone, port, frequency, modes):
    """As :func:`airlam.realtime.compiled_basis.eigenvectors`, faster, and correct to 1e-5 of the largest eigenvalue
    rather than 1e-7: it mixes modes of noise with each other in another way."""
    symmetric_eigenvectors(tone, frequency)
    for p in range(port.shape[0]):
        symmetric_eigenvectors(port[p], modes[p])
