"""DeepMIMO: scenario folders of version 4, and exported channel arrays (https://github.com/DeepMIMO/DeepMIMO)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, check_not_empty, links_at_once
from airlam.data.importers.sets.paths import PathGrid, Paths
from airlam.data.importers.sets.stored import Stored, has_arrays, opened_array
from airlam.errors import RecipeError, StoreError

AXES = "user, rx_ant, tx_ant, subcarrier, or a fifth axis of times"
FIELDS = ("power", "phase", "delay", "aoa_az", "aoa_el", "aod_az", "aod_el", "rx_pos", "inter")
PARAMETERS = "params.json"


class DeepMIMO(Layout):
    """A scenario folder with ``params.json``, or an array ``channel`` in a ``.npz``, ``.h5`` or ``.mat``.

    *Folder.* The paths of one transmitter to one set of receivers, as ``deepmimo/datasets/load.py`` (4.0.5) names the
    files: ``power_t000_tx000_r001.npz`` and so on; power in dB, phase and angles in degrees, elevations from the
    zenith. CSI follows ``generator/channel.py`` and ``generator/geometry.py``: amplitude ``sqrt(power)``, phase, delay
    ``-2 pi f delay`` from the first subcarrier on, elements at half a wavelength along y and z with phases that grow
    along the departure. Elements are isotropic; no low-pass filter, and paths beyond the symbol are not cut. Users
    without a path are left out. Dynamic scenarios (several scenes) are not read.

    *Array.* ``channel [user, rx_ant, tx_ant, subcarrier]`` or with a fifth axis of times, as ``compute_channels``
    returns it. DeepMIMO counts elements along y first, then upwards: with ``--port-shape 1,columns,rows`` they are
    brought into airlam's order, without it they keep theirs, in one line.

    Args:
        tx_set, tx, rx_set: folder: numbers of the transmitter's set, of the transmitter in it, of the receivers' set;
            needed where there are several.
        azimuth_deg: folder: where the panel looks, from the x axis towards y (``bs_antenna.rotation[2]``).
        subcarriers: folder: how many. slots: folder: how many (default: 1).
        speed_kmh: folder: of every user, in a horizontal direction drawn from the seed (default: 0).
        variable: array: its name, if it is not ``channel``.
    """

    name = "deepmimo"
    options = ("tx_set", "tx", "rx_set", "azimuth_deg", "subcarriers", "slots", "speed_kmh", "variable")

    def __init__(self, variable: str = "channel", azimuth_deg: float = 0.0, **options: Any) -> None:
        self.variable = variable
        try:
            self.azimuth = np.deg2rad(float(azimuth_deg))
        except ValueError:
            raise RecipeError(f"--azimuth-deg is {azimuth_deg!r}, but must be a number of degrees") from None
        self.given = options

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if path.is_dir():
            return (path / PARAMETERS).is_file()
        return has_arrays(path, channel=(4, 5))

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        with ExitStack() as stack:
            yield self._folder(path, stack) if path.is_dir() else self._array(path, stack)

    def _array(self, path: Path, stack: ExitStack) -> Contents:
        if self.given or self.azimuth:
            raise RecipeError(f"{path} is an array: of the options only --variable applies")
        array = stack.enter_context(opened_array(path, self.variable, (4, 5), AXES, self.scratch))
        if array.dtype.kind != "c":
            raise StoreError(f"{array.title} is {array.dtype}, but must be complex [{AXES}]")
        users, rx_ant, tx_ant, tones, times = (*array.shape, 1)[:5]
        shape = (users, times, tones, rx_ant, tx_ant)
        ports = self.description.port_shape
        if ports is not None and int(np.prod(ports)) != tx_ant:
            ports = None  # the writer says what is wrong
        if ports is not None and ports[0] != 1:
            raise RecipeError(
                f"--port-shape {','.join(map(str, ports))} has {ports[0]} polarisations, but DeepMIMO's elements have "
                "one; give 1,columns,rows"
            )

        def blocks() -> Iterator[LinkBlock]:
            for part in array.rows(links_at_once(shape)):
                with np.errstate(over="ignore"):
                    h = part.astype(np.complex64, copy=False).reshape(-1, rx_ant, tx_ant, tones, times)
                if ports is not None:
                    h = h.reshape(-1, rx_ant, ports[2], ports[1], tones, times)[:, :, ::-1]  # rows from the top
                    h = h.swapaxes(2, 3).reshape(-1, rx_ant, tx_ant, tones, times)
                yield LinkBlock(np.ascontiguousarray(h.transpose(0, 4, 3, 1, 2)))

        return Contents(shape, blocks, (path,))

    def _folder(self, path: Path, stack: ExitStack) -> Contents:
        parameters = _parameters(path)
        number = self._pair(path, parameters["txrx_sets"])
        fields: dict[str, Stored] = {}
        files = [path / PARAMETERS]
        for field in FIELDS:
            file = path / f"{field}_{number}.npz"
            if not file.is_file():
                raise StoreError(
                    f"{path}: layout deepmimo expects {file.name}; there are {_some(path)} (.mat of old versions is "
                    "not read: load and save the scenario with DeepMIMO 4)"
                )
            fields[field] = stack.enter_context(opened_array(file, field, (2,), "user, path", self.scratch))
            files.append(file)
        files.append(path / f"tx_pos_{number}.npz")
        place = stack.enter_context(opened_array(files[-1], "tx_pos", (1, 2), "xyz", self.scratch)).whole()
        place = np.asarray(place, np.float64).reshape(-1)[:3] * [1, 1, 0]
        users = fields["power"].shape[0]
        for field in fields.values():
            if field.shape[0] != users or field.dtype.kind not in "fiu":
                raise StoreError(f"{field.title} is {field.dtype} {list(field.shape)}, but there are {users} users")
        grid = PathGrid(
            path,
            self.description,
            float(parameters["rt_params"]["frequency"]),
            self.given.get("subcarriers"),
            self.given.get("slots"),
            self.given.get("speed_kmh"),
            centred=False,
        )
        active = np.concatenate([np.isfinite(part).any(1) for part in fields["power"].rows(2**16)])
        check_not_empty(f"{path}: users with a path", (int(active.sum()),))
        shape = (int(active.sum()), *grid.shape)
        velocities = grid.velocities(users)
        paths = fields["power"].shape[1]

        def blocks() -> Iterator[LinkBlock]:
            step, start = links_at_once((1, grid.slots, grid.tones, 3 * paths + shape[-1])), 0
            for parts in zip(*(field.rows(step) for field in fields.values()), strict=True):
                kept = active[start : start + step]
                velocity = velocities[start : start + step][kept]
                block = {name: part[kept].astype(np.float64) for name, part in zip(fields, parts, strict=True)}
                start += step
                if len(velocity):
                    position = block["rx_pos"] - place  # x and y from the base station, z above the ground
                    truth = {"position": position, "los": (block["inter"] == 0).any(1), "velocity": velocity}
                    speed = np.full(len(velocity), grid.speed)
                    yield LinkBlock(grid.csi(self._paths(block), velocity), speed, truth)

        notes = []
        if len(active) > active.sum():
            notes.append(f"{len(active) - active.sum()} of {len(active)} users have no path and were left out")
        if grid.slots > 1 and not grid.speed:
            notes.append("users stand still: all slots are equal; --speed-kmh moves them")
        known = {
            "carrier_frequency": grid.carrier_hz,
            "slot_duration": grid.slot_s,
            "port_shape": grid.ports,
        }
        return Contents(shape, blocks, tuple(files), known, notes=tuple(notes))

    def _paths(self, block: dict[str, np.ndarray]) -> Paths:
        there = np.isfinite(block["power"])
        whole = {name: np.where(there, block[name], 0.0) for name in FIELDS[:7]}
        gain = np.where(there, 10 ** (whole["power"] / 20), 0) * np.exp(1j * np.deg2rad(whole["phase"]))
        angles = {name: np.deg2rad(whole[name]) for name in FIELDS[3:7]}
        departure = np.stack([angles["aod_el"], angles["aod_az"] - self.azimuth])
        return Paths(gain, whole["delay"], departure, np.stack([angles["aoa_el"], angles["aoa_az"]]))

    def _pair(self, path: Path, sets: dict[str, Any]) -> str:
        """The part of the files' names that says transmitter and receivers."""
        every = [entry for _, entry in sorted(sets.items())]
        senders = {int(entry["id"]): entry for entry in every if entry["is_tx"]}
        receivers = {int(e["id"]): e for e in every if e["is_rx"] and not e["is_tx"]} or {
            int(e["id"]): e for e in every if e["is_rx"]
        }
        tx_set = self._one(path, "tx_set", sorted(senders))
        tx = self._one(path, "tx", list(range(int(senders[tx_set]["num_points"]))))
        rx_set = self._one(path, "rx_set", sorted(receivers))
        return f"t{tx_set:03}_tx{tx:03}_r{rx_set:03}"

    def _one(self, path: Path, option: str, known: list[int]) -> int:
        given = self.given.get(option)
        flag = f"--{option.replace('_', '-')}"
        listed = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
        if given is None and len(known) != 1:
            raise RecipeError(f"{path} has {option} {listed or 'none'}; say which with {flag}")
        if given is not None and str(given) not in map(str, known):
            raise RecipeError(f"{flag} is {given}, but {path} has {listed}")
        return known[0] if given is None else int(given)


def _parameters(path: Path) -> dict[str, Any]:
    """What ``params.json`` says."""
    file = path / PARAMETERS
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        scenes = int(content["scene"]["num_scenes"])
        float(content["rt_params"]["frequency"])
        for entry in content["txrx_sets"].values():
            entry["id"], entry["is_tx"], entry["is_rx"], entry["num_points"]  # noqa: B018
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise StoreError(
            f"{path}: layout deepmimo expects {PARAMETERS} with txrx_sets, rt_params.frequency and scene.num_scenes of "
            f"DeepMIMO 4, found something else ({type(error).__name__}: {reason})"
        ) from error
    if scenes > 1:
        raise StoreError(
            f"{path} has {scenes} scenes, but only static scenarios (1) are read; import one scene's folder"
        )
    return content


def _some(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    return (", ".join(names[:5]) or "no files") + (", ..." if len(names) > 5 else "")
