"""Filters of one link's series, compiled: AR filters with shrinkage, their roll-out, and the network's filters.

A series is ``float32 [2, slot, bin]``, real and imaginary parts apart and bins innermost: loops over bins are vector
instructions.

Both :func:`airlam.baselines.eigen_ar.class_filters` and :func:`airlam.baselines.ar.ar_filters` are

    w_b = w + (D_b^H D_b + shrinkage * A / size)^-1 D_b^H (t_b - D_b w)

with ``A`` the loaded Gram matrix of ``size`` bins and ``w`` their pooled filter. Sums over bins of products of two
slots (``products``) give ``A`` and ``w``, and a new slot changes one row of them.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.realtime.kernels.jit import CHUNK, kernel


@kernel
def multiply(series, new, products):
    """Move ``products complex64 [class, slot, slot]``, sums of ``conj(x_i) x_j`` over the bins of a class, by ``new``
    slots and fill in those of the newest. Classes are runs of equally many bins; the last bins may be in none."""
    classes, history = products.shape[0], products.shape[1]
    new = min(new, history)
    size = series.shape[2] // classes
    for c in range(classes):
        first, stop = c * size, (c + 1) * size
        for i in range(history - new):
            for j in range(history - new):
                products[c, i, j] = products[c, i + new, j + new]
        for j in range(history - new, history):
            for i in range(j + 1):
                re = np.float32(0.0)
                im = np.float32(0.0)
                xr, xi = series[0, i, first:stop], series[1, i, first:stop]
                yr, yi = series[0, j, first:stop], series[1, j, first:stop]
                for b in range(size):
                    re += xr[b] * yr[b] + xi[b] * yi[b]
                    im += xr[b] * yi[b] - xi[b] * yr[b]
                products[c, i, j] = complex(re, im)
                products[c, j, i] = complex(re, -im)


@kernel
def cholesky(a, factor):
    """Lower Cholesky factor of a Hermitian matrix, its diagonal inverted; False where a pivot is not positive."""
    size = a.shape[0]
    for j in range(size):
        pivot = a[j, j].real
        for k in range(j):
            pivot -= factor[j, k].real ** 2 + factor[j, k].imag ** 2
        if not pivot > 0:
            return False
        inverse = 1.0 / math.sqrt(pivot)
        factor[j, j] = inverse
        for i in range(j + 1, size):
            total = a[i, j]
            for k in range(j):
                total -= factor[i, k] * np.conj(factor[j, k])
            factor[i, j] = total * inverse
    return True


@kernel
def pooled_filters(products, size, order, ridge, relative, absolute, shrinkage, pooled, forward, back):
    """Of each class from its ``products [class, slot, slot]``: the filter ``pooled complex64 [class, order]``, and the
    real matrices of :func:`as_real` for ``whitener whitener^H = (shrinkage * A / size)^-1``, upper triangular.

    The loading is ``max(ridge * mean, relative * largest) + absolute`` of the diagonal; ``absolute`` is relative to
    the mean power of a sample where it is negative.
    """
    history = products.shape[1]
    gram = np.empty((order, order), np.complex128)
    factor = np.zeros((order, order), np.complex128)
    # columns: the filter, then the inverse factor, whose conjugate transpose is the whitener
    columns = np.empty((order, 1 + order), np.complex128)
    scale = math.sqrt(size / max(shrinkage, 1e-6))
    for c in range(products.shape[0]):
        gram[:] = 0
        columns[:] = 0
        for e in range(history - order):
            for i in range(order):
                for j in range(i + 1):
                    gram[i, j] += products[c, e + i, e + j]
                columns[i, 0] += products[c, e + i, e + order]
        mean = 0.0
        largest = 0.0
        power = 0.0
        for i in range(order):
            columns[i, 1 + i] = scale
            mean += gram[i, i].real / order
            largest = max(largest, gram[i, i].real)
        for t in range(history):
            power += products[c, t, t].real / (history * size)
        load = max(ridge * mean, relative * largest)
        load += absolute if absolute >= 0 else -absolute * (power if power > 0 else 1.0)
        done = False
        while not done:
            for i in range(order):
                gram[i, i] += load
            done = cholesky(gram, factor)
            load = 1e-10 * (mean + load) + 1e-30  # where no loading meets a history of low rank
        for i in range(order):
            for k in range(i):
                left = factor[i, k]
                for j in range(1 + order):
                    columns[i, j] -= left * columns[k, j]
            inverse = factor[i, i].real
            for j in range(1 + order):
                columns[i, j] *= inverse
        for step in range(order):
            i = order - 1 - step
            total = columns[i, 0]
            for k in range(i + 1, order):
                total -= np.conj(factor[k, i]) * columns[k, 0]
            columns[i, 0] = total * factor[i, i].real
            pooled[c, i] = columns[i, 0]
        if shrinkage < np.inf:
            as_real(columns, forward[c], back[c])


@kernel
def as_real(columns, forward, back):
    """Real matrices: ``forward [2 * order + 2, 2 * order + 2]`` takes the samples of an equation, target last, to its
    whitened row and, last, to what the pooled filter leaves; ``back [2 * order, 2 * order]`` multiplies with the
    whitener. ``columns``: the pooled filter, and the conjugate transpose of the whitener."""
    order = columns.shape[0]
    forward[:] = 0
    back[:] = 0
    for i in range(order):
        re, im = columns[i, 0].real, columns[i, 0].imag
        forward[2 * order, 2 * i] = -re
        forward[2 * order, 2 * i + 1] = im
        forward[2 * order + 1, 2 * i] = -im
        forward[2 * order + 1, 2 * i + 1] = -re
        for j in range(order):
            re, im = columns[i, 1 + j].real, -columns[i, 1 + j].imag
            forward[2 * i, 2 * j] = re
            forward[2 * i, 2 * j + 1] = -im
            forward[2 * i + 1, 2 * j] = im
            forward[2 * i + 1, 2 * j + 1] = re
            back[2 * j, 2 * i] = re
            back[2 * j, 2 * i + 1] = -im
            back[2 * j + 1, 2 * i] = im
            back[2 * j + 1, 2 * i + 1] = re
    forward[2 * order, 2 * order] = 1.0
    forward[2 * order + 1, 2 * order + 1] = 1.0


@kernel
def own_filters(series, pooled, forward, back, taps):
    """Filters ``taps float32 [2, order, bin]`` of each bin, oldest sample first, from what :func:`pooled_filters`
    writes; zero for bins in no class."""
    classes, order = pooled.shape
    history, bins = series.shape[1:]
    size = bins // classes
    for b in range(classes * size, bins):
        for j in range(order):
            taps[0, j, b] = 0.0
            taps[1, j, b] = 0.0
    width = min(size, CHUNK)
    equations = history - order
    inner = min(equations, order)
    # rows of one matrix: real and imaginary part of each slot, so that products with filters are real products
    x = np.zeros((2 * history, width), np.float32)
    white = np.empty((equations, 2 * order + 2, width), np.float32)
    system = np.empty((inner, inner, 2, width), np.float32)
    solution = np.empty((inner, 2, width), np.float32)
    update = np.empty((order, 2, width), np.float32)
    found = np.empty((2 * order, width), np.float32)
    for c in range(classes):
        for first in range(c * size, (c + 1) * size, width):
            number = min(width, (c + 1) * size - first)
            for t in range(history):
                for part in range(2):
                    for b in range(number):
                        x[2 * t + part, b] = series[part, t, first + b]
            for e in range(equations):
                np.dot(forward[c], x[2 * e : 2 * (e + order + 1)], white[e])
            normal_equations(white, system, solution)
            substitute_block(system, factorise_block(system), solution)
            if equations <= order:
                combine(white, solution, update)
            else:
                update[:] = solution
            np.dot(back[c], update.reshape(2 * order, width), found)
            for j in range(order):
                for part in range(2):
                    shared = pooled[c, j].imag if part else pooled[c, j].real
                    for b in range(number):
                        taps[part, j, first + b] = found[2 * j + part, b] + shared


@kernel
def ar_taps(series, products, order, ridge, relative, absolute, shrinkage, taps):
    """AR filters ``taps float32 [2, order, bin]`` of each bin, oldest sample first; zero for bins in no class. See
    :func:`pooled_filters` for the loading."""
    classes = products.shape[0]
    size = series.shape[2] // classes
    pooled = np.empty((classes, order), np.complex64)
    forward = np.empty((classes, 2 * order + 2, 2 * order + 2), np.float32)
    back = np.empty((classes, 2 * order, 2 * order), np.float32)
    pooled_filters(products, size, order, ridge, relative, absolute, shrinkage, pooled, forward, back)
    if shrinkage < np.inf:
        own_filters(series, pooled, forward, back, taps)
        return
    taps[:] = 0
    for c in range(classes):
        for j in range(order):
            for b in range(c * size, (c + 1) * size):
                taps[0, j, b] = pooled[c, j].real
                taps[1, j, b] = pooled[c, j].imag


@kernel
def normal_equations(white, system, solution):
    """``(G G^H + I) z = e``, or ``(G^H G + I) u = G^H e`` where there are more equations than taps; of ``system`` the
    lower half. The last two rows of each equation of ``white`` are ``e``."""
    equations, order, width = white.shape[0], white.shape[1] // 2 - 1, white.shape[2]
    inner = system.shape[0]
    for i in range(inner):
        for k in range(i + 1):
            for b in range(width):
                system[i, k, 0, b] = 1.0 if i == k else 0.0
                system[i, k, 1, b] = 0.0
            if equations <= order:
                for j in range(0, 2 * order, 2):
                    for b in range(width):  # u conj(v)
                        ur, ui, vr, vi = white[i, j, b], white[i, j + 1, b], white[k, j, b], white[k, j + 1, b]
                        system[i, k, 0, b] += ur * vr + ui * vi
                        system[i, k, 1, b] += ui * vr - ur * vi
            else:
                for e in range(equations):
                    for b in range(width):  # conj(u) v
                        ur, ui = white[e, 2 * i, b], white[e, 2 * i + 1, b]
                        vr, vi = white[e, 2 * k, b], white[e, 2 * k + 1, b]
                        system[i, k, 0, b] += ur * vr + ui * vi
                        system[i, k, 1, b] += ur * vi - ui * vr
    if equations <= order:
        for e in range(equations):
            for b in range(width):
                solution[e, 0, b] = white[e, 2 * order, b]
                solution[e, 1, b] = white[e, 2 * order + 1, b]
    else:
        combine(white, white[:, 2 * order :], solution)


@kernel
def combine(white, weights, out):
    """``G^H weights``: of ``weights [equation, 2, bin]`` to ``out [tap, 2, bin]``."""
    for j in range(out.shape[0]):
        for b in range(out.shape[2]):
            out[j, 0, b] = 0.0
            out[j, 1, b] = 0.0
        for e in range(weights.shape[0]):
            for b in range(out.shape[2]):
                ur, ui, vr, vi = white[e, 2 * j, b], white[e, 2 * j + 1, b], weights[e, 0, b], weights[e, 1, b]
                out[j, 0, b] += ur * vr + ui * vi
                out[j, 1, b] += ur * vi - ui * vr


@kernel
def factorise_block(system):
    """Lower Cholesky factors of each bin's Hermitian ``system [row, column, 2, bin]`` take the place of its lower half;
    returns the inverse of their diagonals ``[row, bin]``."""
    size, width = system.shape[0], system.shape[3]
    inverse = np.empty((size, width), system.dtype)
    for j in range(size):
        for k in range(j):
            for b in range(width):
                system[j, j, 0, b] -= system[j, k, 0, b] ** 2 + system[j, k, 1, b] ** 2
        for b in range(width):
            inverse[j, b] = 1.0 / math.sqrt(system[j, j, 0, b])
        for i in range(j + 1, size):
            for k in range(j):
                for b in range(width):  # u conj(v)
                    ur, ui, vr, vi = system[i, k, 0, b], system[i, k, 1, b], system[j, k, 0, b], system[j, k, 1, b]
                    system[i, j, 0, b] -= ur * vr + ui * vi
                    system[i, j, 1, b] -= ui * vr - ur * vi
            for b in range(width):
                system[i, j, 0, b] *= inverse[j, b]
                system[i, j, 1, b] *= inverse[j, b]
    return inverse


@kernel
def substitute_block(system, inverse, x):
    """``x [row, 2, bin]`` becomes the solution, with the factors of :func:`factorise_block`."""
    size, width = system.shape[0], system.shape[3]
    for i in range(size):
        for k in range(i):
            for b in range(width):  # u v
                ur, ui, vr, vi = system[i, k, 0, b], system[i, k, 1, b], x[k, 0, b], x[k, 1, b]
                x[i, 0, b] -= ur * vr - ui * vi
                x[i, 1, b] -= ur * vi + ui * vr
        for b in range(width):
            x[i, 0, b] *= inverse[i, b]
            x[i, 1, b] *= inverse[i, b]
    for step in range(size):
        i = size - 1 - step
        for k in range(i + 1, size):
            for b in range(width):  # conj(u) v
                ur, ui, vr, vi = system[k, i, 0, b], system[k, i, 1, b], x[k, 0, b], x[k, 1, b]
                x[i, 0, b] -= ur * vr + ui * vi
                x[i, 1, b] -= ur * vi - ui * vr
        for b in range(width):
            x[i, 0, b] *= inverse[i, b]
            x[i, 1, b] *= inverse[i, b]


@kernel
def roll_out(series, taps, limit, future):
    """Predict ``future [2, slot, bin]`` sample by sample; none exceeds ``limit`` times the bin's largest magnitude."""
    history, bins = series.shape[1:]
    order, number = taps.shape[1], future.shape[1]
    most = np.zeros(bins, np.float32)
    for t in range(history):
        for b in range(bins):
            most[b] = max(most[b], series[0, t, b] ** 2 + series[1, t, b] ** 2)
    for b in range(bins):
        most[b] *= limit * limit
    for s in range(number):
        for b in range(bins):
            future[0, s, b] = 0.0
            future[1, s, b] = 0.0
        for j in range(order):
            t = history - order + s + j
            if t < history:
                for b in range(bins):
                    wr, wi, xr, xi = taps[0, j, b], taps[1, j, b], series[0, t, b], series[1, t, b]
                    future[0, s, b] += wr * xr - wi * xi
                    future[1, s, b] += wr * xi + wi * xr
            else:
                t -= history
                for b in range(bins):
                    wr, wi, xr, xi = taps[0, j, b], taps[1, j, b], future[0, t, b], future[1, t, b]
                    future[0, s, b] += wr * xr - wi * xi
                    future[1, s, b] += wr * xi + wi * xr
        for b in range(bins):
            size = future[0, s, b] ** 2 + future[1, s, b] ** 2
            scale = math.sqrt(min(np.float32(1.0), most[b] / max(size, np.float32(1e-37))))
            future[0, s, b] *= scale
            future[1, s, b] *= scale


@kernel
def blend(series, weights, token, gate, future):
    """Blend ``future [2, target, bin]`` with the network's filters ``weights [token, 2, target, slot]``, each bin by
    the ``gate`` of its ``token``."""
    history = series.shape[1]
    re, im = np.empty(history, np.float32), np.empty(history, np.float32)
    for b in range(series.shape[2]):
        for t in range(history):
            re[t] = series[0, t, b]
            im[t] = series[1, t, b]
        share = gate[token[b]]
        of = token[b]
        for k in range(future.shape[1]):
            real = np.float32(0.0)
            imag = np.float32(0.0)
            for t in range(history):
                real += weights[of, 0, k, t] * re[t] - weights[of, 1, k, t] * im[t]
                imag += weights[of, 0, k, t] * im[t] + weights[of, 1, k, t] * re[t]
            future[0, k, b] += share * (real - future[0, k, b])
            future[1, k, b] += share * (imag - future[1, k, b])
