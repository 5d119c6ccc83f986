"""Bases of one link, compiled: folding, covariances, projection, and the way back to CSI.

Covariances that are averaged with themselves, reversed and conjugated (``forward_backward`` in
:class:`airlam.baselines.eigen_ar.Eigenbasis`) become real by *folding* an axis: the sum of the entries ``k`` and
``n - 1 - k`` takes place ``k``, ``-j`` times their difference place ``n // 2 + k``, both over the root of two, and the
middle of an odd axis comes last. Folding is unitary. Eigenvectors of the folded covariances are real, and so are all
products with them, which halves the work.

Folded CSI is ``float32 [polarisation, subcarrier, slot, 2, rx_ant, port]``, with real and imaginary parts on axis 3.
Coefficients have the same layout, modes in place of subcarriers and ports. ``rows`` and ``cols`` say where a bin is:
``rows = polarisation * subcarriers + mode``, ``cols = rx_ant * ports + mode``.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.realtime.kernels.jit import kernel


@kernel
def fold(slots, offsets, first, folded):
    """Turn ``slots complex64 [slot, subcarrier, rx_ant, tx_ant]`` back by ``offsets [2, slot]`` [rad], fold both axes,
    and write those from slot ``first`` on to ``folded``, as many as it holds."""
    number = folded.shape[2]
    tones, rx_ants, tx_ants = slots.shape[1:]
    half = tones // 2
    scale = np.float32(math.sqrt(0.5))
    turn = np.empty(tones, np.complex64)
    rows = np.empty((2, tx_ants), np.complex64)
    for i in range(number):
        for f in range(tones):
            angle = offsets[0, first + i] + np.float32((f - 0.5 * (tones - 1)) * (2.0 / tones)) * offsets[1, first + i]
            turn[f] = complex(math.cos(angle), -math.sin(angle))
        for k in range(half):
            end = tones - 1 - k
            up, down = turn[k] * scale, turn[end] * scale
            for r in range(rx_ants):
                for a in range(tx_ants):
                    x, y = slots[first + i, k, r, a], slots[first + i, end, r, a]
                    xr, xi = x.real * up.real - x.imag * up.imag, x.real * up.imag + x.imag * up.real
                    yr, yi = y.real * down.real - y.imag * down.imag, y.real * down.imag + y.imag * down.real
                    rows[0, a] = complex(xr + yr, xi + yi)
                    rows[1, a] = complex(xi - yi, yr - xr)
                fold_ports(rows[0], folded, k, i, r)
                fold_ports(rows[1], folded, half + k, i, r)
        if tones % 2:
            for r in range(rx_ants):
                for a in range(tx_ants):
                    rows[0, a] = slots[first + i, half, r, a] * turn[half]
                fold_ports(rows[0], folded, tones - 1, i, r)


@kernel
def fold_ports(row, folded, f, t, r):
    """Fold ``row [tx_ant]`` in each polarisation, to ``folded[:, f, t, :, r]``."""
    ports = folded.shape[5]
    half = ports // 2
    scale = np.float32(math.sqrt(0.5))
    for p in range(folded.shape[0]):
        start = p * ports
        for a in range(half):
            x, y = row[start + a], row[start + ports - 1 - a]
            folded[p, f, t, 0, r, a] = scale * (x.real + y.real)
            folded[p, f, t, 1, r, a] = scale * (x.imag + y.imag)
            folded[p, f, t, 0, r, half + a] = scale * (x.imag - y.imag)
            folded[p, f, t, 1, r, half + a] = scale * (y.real - x.real)
        if ports % 2:
            folded[p, f, t, 0, r, ports - 1] = row[start + half].real
            folded[p, f, t, 1, r, ports - 1] = row[start + half].imag


@kernel
def unfold_tones(folded, out):
    """Inverse of the folding of subcarriers: ``folded float32 [polarisation, subcarrier, slot, rx_ant, 2 * port]``,
    real and imaginary parts in turn, to ``out float32 [slot, subcarrier, rx_ant, 2 * tx_ant]``."""
    number, tones, rx_ants = out.shape[:3]
    polarisations, width = folded.shape[0], folded.shape[4]
    half = tones // 2
    scale = np.float32(math.sqrt(0.5))
    for t in range(number):
        for p in range(polarisations):
            place = p * width
            for r in range(rx_ants):
                for k in range(half):
                    end, other = tones - 1 - k, half + k
                    for a in range(0, width, 2):
                        re, im = scale * folded[p, other, t, r, a], scale * folded[p, other, t, r, a + 1]
                        sum_re, sum_im = scale * folded[p, k, t, r, a], scale * folded[p, k, t, r, a + 1]
                        out[t, k, r, place + a] = sum_re - im
                        out[t, k, r, place + a + 1] = sum_im + re
                        out[t, end, r, place + a] = sum_re + im
                        out[t, end, r, place + a + 1] = sum_im - re
                if tones % 2:
                    out[t, half, r, place : place + width] = folded[p, tones - 1, t, r]


@kernel
def port_synthesis(modes, out):
    """Real modes of folded ports ``[port, mode]`` -> the real matrix ``[2 * mode, 2 * port]`` from coefficients, real
    parts first, to ports, real and imaginary parts in turn."""
    ports = modes.shape[0]
    half = ports // 2
    scale = np.float32(math.sqrt(0.5))
    for n in range(ports):
        for a in range(half):
            plus, minus = scale * modes[a, n], scale * modes[half + a, n]
            b = ports - 1 - a
            out[n, 2 * a], out[n, 2 * a + 1] = plus, minus
            out[n, 2 * b], out[n, 2 * b + 1] = plus, -minus
            out[ports + n, 2 * a], out[ports + n, 2 * a + 1] = -minus, plus
            out[ports + n, 2 * b], out[ports + n, 2 * b + 1] = minus, plus
        if ports % 2:
            out[n, 2 * half], out[n, 2 * half + 1] = modes[ports - 1, n], 0.0
            out[ports + n, 2 * half], out[ports + n, 2 * half + 1] = 0.0, modes[ports - 1, n]


@kernel
def covariances(folded, tone, port):
    """Covariances of folded slots, up to a factor: ``tone [subcarrier, subcarrier]``, ``port [polarisation, port,
    port]``, real."""
    polarisations, tones, ports = folded.shape[0], folded.shape[1], folded.shape[5]
    tone[:] = 0
    for p in range(polarisations):
        by_tone = folded[p].reshape(tones, -1)
        tone += np.dot(by_tone, by_tone.T)
        by_port = folded[p].reshape(-1, ports)
        port[p] = np.dot(by_port.T, by_port)


@kernel
def eigenvectors(tone, port, frequency, modes):
    """Eigenvectors in columns, from the weakest to the strongest: ``frequency``, and ``modes`` of the ports."""
    frequency[:] = np.linalg.eigh(tone)[1]
    for p in range(port.shape[0]):
        modes[p] = np.linalg.eigh(port[p])[1]


@kernel
def project(folded, frequency, modes, half, coefficients):
    """``folded`` slots -> ``coefficients``; ``half`` is scratch of the same shape."""
    tones, ports = folded.shape[1], folded.shape[5]
    for p in range(folded.shape[0]):
        np.dot(folded[p].reshape(-1, ports), modes[p], half[p].reshape(-1, ports))
        np.dot(frequency.T, half[p].reshape(tones, -1), coefficients[p].reshape(tones, -1))


@kernel
def synthesise(future, rows, cols, frequency, modes, grid, half, out):
    """Bins ``future [2, slot, bin]`` -> CSI ``out complex64 [slot, subcarrier, rx_ant, tx_ant]``, all others zero.

    ``grid`` and ``half`` are scratch, ``float32 [polarisation, subcarrier, slot, rx_ant, 2 * port]``.
    """
    polarisations, tones, number, rx_ants, width = grid.shape
    ports = width // 2
    grid[:] = 0
    flat = grid.reshape(-1, number, rx_ants * width)
    for b in range(rows.shape[0]):
        place = cols[b] // ports * width + cols[b] % ports
        for t in range(number):
            flat[rows[b], t, place] = future[0, t, b]
            flat[rows[b], t, place + ports] = future[1, t, b]
    matrix = np.empty((width, width), np.float32)
    for p in range(polarisations):
        np.dot(frequency, grid[p].reshape(tones, -1), half[p].reshape(tones, -1))
        port_synthesis(modes[p], matrix)
        np.dot(half[p].reshape(-1, width), matrix, grid[p].reshape(-1, width))
    unfold_tones(grid, out.view(np.float32))


@kernel
def gather(coefficients, oldest, rows, cols, series):
    """Append the bins at ``rows, cols`` of ``coefficients`` to ``series [2, slot, bin]``, whose older slots move. The
    slots of ``coefficients`` are a ring that starts at ``oldest``."""
    number = coefficients.shape[2]
    flat = coefficients.reshape(-1, number, 2, coefficients.shape[4] * coefficients.shape[5])
    kept = series.shape[1] - number
    for part in range(2):
        for t in range(kept):
            for b in range(rows.shape[0]):
                series[part, t, b] = series[part, t + number, b]
        for t in range(number):
            place = (oldest + t) % number
            for b in range(rows.shape[0]):
                series[part, kept + t, b] = flat[rows[b], place, part, cols[b]]


@kernel
def exchange(ring, place, entering, leaving):
    """Put the one folded slot ``entering`` at ``place`` of ``ring``; what was there goes to ``leaving``."""
    polarisations, tones, number = ring.shape[:3]
    flat = ring.reshape(polarisations, tones, number, -1)
    new, old = entering.reshape(polarisations, tones, -1), leaving.reshape(polarisations, tones, -1)
    for p in range(polarisations):
        for f in range(tones):
            for i in range(new.shape[2]):
                old[p, f, i] = flat[p, f, place, i]
                flat[p, f, place, i] = new[p, f, i]


@kernel
def squared(x):
    """Squares of a matrix, in place."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] *= x[i, j]
    return x


@kernel
def hand_over(old_basis, old_ports, old_rows, old_cols, old_token, basis, ports, rows, cols, token):
    """Tokens of the bins of a new basis: each has that of the old bin of the same receive antenna and polarisation
    with the largest overlap: ``|<u_old, u>|^2`` of the mode over subcarriers times that of the mode over ports."""
    tones, width, polarisations = basis.shape[0], ports.shape[1], ports.shape[0]
    overlap = squared(np.dot(basis.T, old_basis))
    port_overlap = np.empty(ports.shape, np.float32)
    for p in range(polarisations):
        port_overlap[p] = squared(np.dot(old_ports[p].T, ports[p]))
    # of each old mode over subcarriers, antenna and polarisation: the kept bin that a new mode over ports overlaps most
    cells = max(old_cols.max(), cols.max()) // width + 1
    nearest = np.full((polarisations, cells, width, tones), -1, np.int32)
    size = np.zeros((polarisations, cells, width, tones), np.float32)
    for b in range(old_rows.shape[0]):
        p, m = old_rows[b] // tones, old_rows[b] % tones
        r, old = old_cols[b] // width, old_cols[b] % width
        for n in range(width):
            more = port_overlap[p, old, n] >= size[p, r, n, m]
            size[p, r, n, m] = port_overlap[p, old, n] if more else size[p, r, n, m]
            nearest[p, r, n, m] = b if more else nearest[p, r, n, m]
    total = np.empty(tones, np.float32)
    bits = total.view(np.int32)  # which order positive numbers as their values do, and have vector instructions for it
    for b in range(rows.shape[0]):
        p, new = rows[b] // tones, rows[b] % tones
        r, n = cols[b] // width, cols[b] % width
        for m in range(tones):
            total[m] = overlap[new, m] * size[p, r, n, m]
        largest = np.int32(0)
        for m in range(tones):
            largest = max(largest, bits[m])
        where = 0
        while bits[where] != largest:
            where += 1
        best = nearest[p, r, n, where]
        token[b] = old_token[best] if best >= 0 else old_token[old_token.shape[0] - 1]


@kernel
def update_covariances(entering, leaving, tone, port):
    """Add slots ``entering`` to sums of :func:`covariances`, and subtract ``leaving``; both folded.

    ``E E^T - L L^T`` is the symmetric part of ``(E - L) (E + L)^T``: one product instead of two.
    """
    polarisations, tones, ports = entering.shape[0], entering.shape[1], entering.shape[5]
    difference, total = np.empty(entering.shape, np.float32), np.empty(entering.shape, np.float32)
    x, y, minus, plus = entering.reshape(-1), leaving.reshape(-1), difference.reshape(-1), total.reshape(-1)
    for i in range(x.shape[0]):
        minus[i] = x[i] - y[i]
        plus[i] = x[i] + y[i]
    for p in range(polarisations):
        add_symmetric(np.dot(difference[p].reshape(tones, -1), total[p].reshape(tones, -1).T), tone)
        add_symmetric(np.dot(difference[p].reshape(-1, ports).T, total[p].reshape(-1, ports)), port[p])


@kernel
def add_symmetric(x, out):
    """Add the symmetric part of ``x``."""
    for i in range(x.shape[0]):
        for j in range(i):
            y = np.float32(0.5) * (x[i, j] + x[j, i])
            out[i, j] += y
            out[j, i] += y
        out[i, i] += x[i, i]


@kernel
def energies(coefficients, energy):
    """Energy of all bins over the slots, ``energy float32 [row, col]``."""
    number = coefficients.shape[2]
    width = coefficients.shape[4] * coefficients.shape[5]
    flat = coefficients.reshape(-1, 2 * number, width)
    for row in range(flat.shape[0]):
        for col in range(width):
            energy[row, col] = 0.0
        for t in range(2 * number):
            for col in range(width):
                energy[row, col] += flat[row, t, col] ** 2


@kernel
def pick(energy, rows, cols):
    """The bins of most energy, strongest first, to ``rows, cols int32 [bin]``.

    A counting sort by the leading bits, which order positive numbers as their values do, then one by insertion within
    runs of similar energy. Comparisons that a processor cannot guess are few.
    """
    number, width = rows.shape[0], energy.shape[1]
    flat = energy.reshape(-1)
    bits = flat.view(np.int32)
    count = np.zeros(1 << 13, np.int32)
    for i in range(bits.shape[0]):
        count[bits[i] >> 18] += 1
    bucket = count.shape[0] - 1
    total = 0
    while True:  # counts become places; ends in the bucket of the last bin that is kept
        size = count[bucket]
        count[bucket] = total
        total += size
        if total >= number or bucket == 0:
            break
        bucket -= 1
    found = np.empty(total, np.int32)
    for i in range(bits.shape[0]):
        of = bits[i] >> 18
        if of >= bucket:
            found[count[of]] = i
            count[of] += 1
    for i in range(1, total):
        moving = found[i]
        value = flat[moving]
        j = i
        while j > 0 and flat[found[j - 1]] < value:
            found[j] = found[j - 1]
            j -= 1
        found[j] = moving
    for b in range(number):
        rows[b] = found[b] // width
        cols[b] = found[b] % width
