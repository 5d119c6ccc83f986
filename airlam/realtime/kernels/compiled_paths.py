"""Kernels of a stream of paths, compiled: the small sums between its matrix products. See
:mod:`airlam.realtime.kernels.plain_paths` for what they compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airlam.realtime.kernels.jit import kernel


@kernel
def analyse(along_tones: NDArray, space: NDArray, row: NDArray, seen: NDArray) -> None:
    lines, gains, slots = seen.shape
    ports = space.shape[1]
    for line in range(lines):
        for gain in range(gains):
            total = np.complex64(0)
            for port in range(ports):
                total += along_tones[row[line], gain * ports + port] * space[line, port]
            for slot in range(slots - 1):
                seen[line, gain, slot] = seen[line, gain, slot + 1]
            seen[line, gain, slots - 1] = np.conj(total)


@kernel
def correlate(seen: NDArray, owner: NDArray, past: NDArray, data: NDArray) -> None:
    gains, atoms = data.shape[1:]
    slots = past.shape[2]
    for gain in range(gains):
        for atom in range(atoms):
            total = np.complex128(0)
            for slot in range(slots):
                total += seen[owner[atom], gain, slot] * complex(past[0, atom, slot], past[1, atom, slot])
            data[0, gain, atom] = total.real
            data[1, gain, atom] = total.imag


@kernel
def solve(inverse: NDArray, data: NDArray, weight: NDArray) -> None:
    gains, atoms = data.shape[1:]
    weight[:] = 0
    for i in range(atoms):
        real, imag = inverse[0, i], inverse[1, i]
        for gain in range(gains):
            x, y, u, v = data[0, gain], data[1, gain], weight[0, gain], weight[1, gain]
            p, q, xi, yi = 0.0, 0.0, x[i], y[i]
            for j in range(i):
                p += real[j] * x[j] - imag[j] * y[j]
                q += real[j] * y[j] + imag[j] * x[j]
                u[j] += real[j] * xi + imag[j] * yi
                v[j] += real[j] * yi - imag[j] * xi
            u[i] += p + real[i] * xi
            v[i] += q + real[i] * yi


@kernel
def spread(
    weight: NDArray,
    ahead: NDArray,
    owner: NDArray,
    space: NDArray,
    row: NDArray,
    series: NDArray,
    turned: NDArray,
    rows: NDArray,
) -> None:
    gains, atoms = weight.shape[1:]
    slots, reals = ahead.shape[1], 2 * space.shape[1]
    series[:] = 0
    for gain in range(gains):
        for atom in range(atoms):
            value = np.complex64(complex(weight[0, gain, atom], weight[1, gain, atom]))
            for slot in range(slots):
                series[owner[atom], gain, slot] += value * ahead[atom, slot]
    # as real numbers: the compiler makes no vector instructions of interleaved complex ones
    lines, out = space.view(np.float32), rows.view(np.float32)
    out[:] = 0
    for line in range(len(lines)):
        wave = lines[line]
        for port in range(0, reals, 2):
            turned[port], turned[port + 1] = -wave[port + 1], wave[port]
        for slot in range(slots):
            for gain in range(gains):
                value = series[line, gain, slot]
                real, imag = value.real, value.imag
                target = out[slot, row[line], gain * reals : (gain + 1) * reals]
                for port in range(reals):
                    target[port] += real * wave[port] + imag * turned[port]
