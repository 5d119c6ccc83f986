"""Channel objects of QuaDRiGa (https://github.com/fraunhoferhhi/QuaDRiGa) in a MATLAB file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.matlab import looks_like, read_struct, read_variables, variable_shapes
from airlam.errors import RecipeError, StoreError
from airlam.recipes import check_number

SAVED = re.compile(r"channel_(?P<number>\d+)_Coeffs")
PARTS = {"coeff": "Coeffs", "delay": "Delays", "center_frequency": "CenterFrequency"}
PARTS |= {"rx_position": "rx_position", "tx_position": "tx_position"}
AXES = "rx, tx, path, snapshot"
STRUCT_BYTES = 500 * 10**6  # of a file with a struct, which SciPy reads whole


class QuaDRiGa(Layout):
    """What ``qd_channel.mat_save`` writes, or a struct array with the fields ``coeff`` and ``delay``.

    Each channel object is a link. ``coeff [rx, tx, path, snapshot]`` and ``delay [path, snapshot]`` or ``[rx, tx, path,
    snapshot]`` become ``sum_p coeff exp(-j 2 pi f delay)``, as ``@qd_channel/fr.m`` computes it: the first subcarrier
    is at the centre frequency, a snapshot is a slot. Signs are airlam's. Centre frequency and positions are read where
    they are there; a speed needs ``--slot-s`` and positions of all snapshots.

    Args:
        subcarriers: how many.
        elements: ``listed`` (default): transmit elements keep their order. ``3gpp``: they are those of
            ``gen_arrayant_3gpp_3d.m`` (polarisation fastest, then rows upwards, then columns), and come into
            airlam's order with ``--port-shape``.
        variable: a struct's name, if it is not the only one in the file.
    """

    name = "quadriga"
    options = ("subcarriers", "elements", "variable")

    def __init__(self, subcarriers: int | None = None, elements: str = "listed", variable: str | None = None) -> None:
        if subcarriers is None:
            raise RecipeError("layout quadriga computes CSI of paths; give --subcarriers")
        self.subcarriers = check_number("--subcarriers", subcarriers, 1, 10**5, integer=True)
        if elements not in ("listed", "3gpp"):
            raise RecipeError(f"--elements is {elements!r}, but must be listed or 3gpp")
        self.elements, self.variable = elements, variable

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return looks_like(path, lambda name: SAVED.fullmatch(name) is not None)

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        shapes = variable_shapes(path)
        numbers = sorted((match["number"] for name in shapes if (match := SAVED.fullmatch(name))), key=int)
        if numbers and self.variable is None:
            groups = self._saved(path, shapes, numbers)
            links = len(numbers)
        else:
            channels = self._struct(path, shapes)
            groups, links = iter([channels]), len(channels)
        first = next(groups)  # read now, because only the arrays tell what they are
        _, slots, rx, tx = _checked(path, first[0])
        ports, spacing = self.description.port_shape, self.description.subcarrier_spacing_hz
        if spacing is None:
            raise RecipeError(f"{path} holds paths; give --subcarrier-spacing-hz")
        if self.elements == "3gpp" and (ports is None or int(np.prod(ports)) != tx):
            raise RecipeError(f"--elements 3gpp needs a --port-shape of the {tx} transmit elements")
        frequencies = np.arange(self.subcarriers) * spacing
        shape = (links, slots, self.subcarriers, rx, tx)

        def blocks() -> Iterator[LinkBlock]:
            done = 0
            for group in _chain(first, groups):
                for channel in group:
                    if (found := _checked(path, channel)[1:]) != (slots, rx, tx):
                        raise StoreError(
                            f"{path}: channel {done + 1} has {_worded(found)}, the first has "
                            f"{_worded((slots, rx, tx))}; save those of one size in a file"
                        )
                    done += 1
                    h = self._ports(_response(channel, frequencies))
                    yield LinkBlock(h[None], truth=self._truth(channel, slots))

        known: dict[str, Any] = {}
        if (carrier := _number(first[0].get("center_frequency"))) > 0:
            known["carrier_frequency"] = carrier
        yield Contents(shape, blocks, (path,), known)

    def _saved(
        self, path: Path, shapes: dict[str, tuple[int, ...]], numbers: list[str]
    ) -> Iterator[list[dict[str, np.ndarray]]]:
        """Channels of ``mat_save``, some at once."""
        for number in numbers:
            if f"channel_{number}_Delays" not in shapes:
                raise StoreError(f"{path}: layout quadriga expects channel_{number}_Delays beside its Coeffs")
        largest = max(int(np.prod(shapes[f"channel_{number}_Coeffs"])) for number in numbers)
        step = links_at_once((1, largest))
        for start in range(0, len(numbers), step):
            group = numbers[start : start + step]
            wanted = [
                f"channel_{n}_{part}" for n in group for part in PARTS.values() if f"channel_{n}_{part}" in shapes
            ]
            read = read_variables(path, wanted)
            yield [
                {key: read[name] for key, part in PARTS.items() if (name := f"channel_{n}_{part}") in read}
                for n in group
            ]

    def _struct(self, path: Path, shapes: dict[str, tuple[int, ...]]) -> list[dict[str, np.ndarray]]:
        structs = [name for name, shape in shapes.items() if shape == ()]
        names = structs if self.variable is None else [self.variable]
        if len(names) != 1 or names[0] not in structs:
            raise StoreError(
                f"{path}: layout quadriga expects channel_00001_Coeffs and so on (qd_channel.mat_save), or one struct "
                f"{self.variable or ''} with coeff and delay, found {', '.join(list(shapes)[:5]) or 'no variable'}"
            )
        if path.stat().st_size > STRUCT_BYTES:
            raise StoreError(
                f"{path} has {path.stat().st_size / 1e6:,.0f} MB, at most {STRUCT_BYTES / 1e6:,.0f} are read of a "
                "struct; save the channels with mat_save, which has no bound"
            )
        channels = read_struct(path, names[0])
        for channel in channels:
            if not {"coeff", "delay"} <= set(channel):
                raise StoreError(
                    f"{path}: {names[0]} has the fields {', '.join(channel)}, layout quadriga expects coeff and delay"
                )
        return channels

    def _ports(self, h: np.ndarray) -> np.ndarray:
        """``[slot, subcarrier, rx, element]`` with elements in airlam's order."""
        if self.elements == "listed":
            return h
        assert self.description.port_shape is not None
        polarisations, columns, rows = self.description.port_shape
        split = h.reshape(*h.shape[:3], columns, rows, polarisations)[..., ::-1, :]
        return np.ascontiguousarray(np.moveaxis(split, -1, 3)).reshape(h.shape)

    def _truth(self, channel: dict[str, np.ndarray], slots: int) -> dict[str, np.ndarray]:
        """Position at the first snapshot, and the mean velocity, where they are known."""
        rx = _position(channel.get("rx_position"))
        if rx is None:
            return {}
        tx = _position(channel.get("tx_position"))
        base = np.zeros(3) if tx is None else tx[:, 0] * [1, 1, 0]  # x and y from the base station, z above the ground
        truth = {"position": (rx[:, 0] - base)[None]}
        if rx.shape[1] == slots > 1 and self.description.slot_s:
            velocity = (rx[:, -1] - rx[:, 0]) / ((slots - 1) * self.description.slot_s)
            truth |= {"velocity": velocity[None], "speed": np.linalg.norm(velocity[None], axis=1)}
        return truth


def _chain(
    first: list[dict[str, np.ndarray]], rest: Iterator[list[dict[str, np.ndarray]]]
) -> Iterator[list[dict[str, np.ndarray]]]:
    yield first
    yield from rest


def _checked(path: Path, channel: dict[str, np.ndarray]) -> tuple[int, int, int, int]:
    """(paths, snapshots, rx, tx) of a channel whose arrays fit; they get their last axes of length one back."""
    coeff = np.asarray(channel["coeff"])
    if coeff.dtype.kind not in "cf" or not 2 <= coeff.ndim <= 4 or 0 in coeff.shape:
        raise StoreError(f"{path}: coeff is {coeff.dtype} {list(coeff.shape)}, but must be complex [{AXES}]")
    rx, tx, paths, snapshots = full = (*coeff.shape, 1, 1)[:4]
    delay = np.asarray(channel["delay"])
    if delay.dtype.kind in "fiu" and delay.shape == (paths, snapshots):
        delay = delay[None, None]
    elif delay.dtype.kind in "fiu" and (*delay.shape, 1, 1)[:4] == full:
        delay = delay.reshape(full)
    elif delay.shape != (1, 1, paths, snapshots):  # which this function itself made
        raise StoreError(
            f"{path}: delay is {delay.dtype} {list(delay.shape)}, but coeff {list(full)} needs real [path, snapshot] "
            "or its own axes"
        )
    channel["coeff"], channel["delay"] = coeff.reshape(full), delay
    return paths, snapshots, rx, tx


def _response(channel: dict[str, np.ndarray], frequencies: np.ndarray) -> np.ndarray:
    """``complex64 [slot, subcarrier, rx, tx]``."""
    delay = channel["delay"].astype(np.float64).transpose(0, 1, 3, 2)  # [rx or 1, tx or 1, snapshot, path]
    cycles = delay[..., None] * frequencies
    phase = (-2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32)  # a fraction of a turn loses nothing
    turn = np.empty(phase.shape, np.complex64)
    turn.real, turn.imag = np.cos(phase), np.sin(phase)
    coeff = channel["coeff"].astype(np.complex64).transpose(0, 1, 3, 2)[..., None, :]  # [rx, tx, snapshot, 1, path]
    if turn.shape[:2] == (1, 1):
        flat = coeff.reshape(-1, *coeff.shape[2:])[..., 0, :].swapaxes(0, 1)  # [snapshot, rx tx, path]
        h = np.matmul(flat, turn[0, 0])  # [snapshot, rx tx, subcarrier]
        return np.ascontiguousarray(h.swapaxes(1, 2)).reshape(*h.shape[::2], *coeff.shape[:2])
    h = np.matmul(coeff, turn)[..., 0, :]  # [rx, tx, snapshot, subcarrier]
    return np.ascontiguousarray(h.transpose(2, 3, 0, 1))


def _position(array: np.ndarray | None) -> np.ndarray | None:
    """``float64 [3, snapshot]``; ``None`` where it is not told."""
    if array is None or array.ndim != 2 or array.shape[0] != 3 or not array.shape[1]:
        return None
    return array.astype(np.float64)


def _number(array: np.ndarray | None) -> float:
    return float(np.asarray(array).reshape(-1)[0]) if array is not None and np.size(array) else 0.0


def _worded(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]} snapshots, {sizes[1]} receive and {sizes[2]} transmit elements"
