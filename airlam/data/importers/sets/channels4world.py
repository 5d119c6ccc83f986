"""Channels4World through its own package, the extra of that name (https://pypi.org/project/channels4world)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, check_not_empty, links_at_once
from airlam.data.importers.sets.paths import PathGrid, Paths
from airlam.errors import RecipeError, StoreError
from airlam.recipes import check_number

ROOT = "c4w-root.json"


class Station(NamedTuple):
    """A record of the package, and the positions of its scene: of the base station ``[3]``, of users ``[ue, 3]``."""

    record: Any
    base: np.ndarray
    users: np.ndarray


class Channels4World(Layout):
    """A downloaded root of Channels4World, a folder with ``c4w-root.json``: the records of it that are there.

    A record holds the paths from one base station to the users of a scene at one carrier, for one element at each end.
    CSI follows ``channels4world/transforms.py`` (1.0.0): Sionna's passband coefficients turned by the carrier's phase
    ``-2 pi carrier delay``, then ``-2 pi f delay`` on subcarriers centred at the carrier. Departures are at the base
    station, arrivals at the user, zenith from +z, azimuth from +x. The base station's panel is made of isotropic
    elements at half a wavelength. Links of one record share a drop.

    Args:
        subcarriers, slots, speed_kmh, azimuth_deg: as in the layout ``deepmimo``.
        scenes: names separated by commas (default: all that are there). tx: the base station's number (default: all).
    """

    name = "channels4world"
    options = ("subcarriers", "slots", "speed_kmh", "azimuth_deg", "scenes", "tx")

    def __init__(
        self, azimuth_deg: float = 0.0, scenes: str | None = None, tx: int | None = None, **options: Any
    ) -> None:
        self.azimuth = np.deg2rad(check_number("--azimuth-deg", azimuth_deg, -360, 360))
        self.scenes = None if scenes is None else [name.strip() for name in scenes.split(",")]
        self.tx = None if tx is None else check_number("--tx", tx, 0, 10**6, integer=True)
        self.given = options

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and (path / ROOT).is_file()

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        if not self.recognises(path):
            raise StoreError(f"{path}: layout channels4world expects a folder with {ROOT}; name the downloaded root")
        carrier, stations = self._stations(path)
        grid = PathGrid(
            path,
            self.description,
            carrier,
            self.given.get("subcarriers"),
            self.given.get("slots"),
            self.given.get("speed_kmh"),
            centred=True,
        )
        grid.carrier_hz = carrier  # of the records, whatever else was said
        counts = np.array([station.record.n_links for station in stations()], int)
        check_not_empty(f"{path}: links at {carrier / 1e9:g} GHz", (int(counts.sum()),))
        shape = (int(counts.sum()), *grid.shape)
        velocities = grid.velocities(shape[0])

        def blocks() -> Iterator[LinkBlock]:
            done = 0
            for station in stations():
                for block in self._links(station, grid, velocities[done : done + station.record.n_links]):
                    yield block
                    done += len(block.h)

        known = {"carrier_frequency": carrier, "slot_duration": grid.slot_s, "port_shape": grid.ports}
        drops = np.arange(len(counts)).repeat(counts)
        yield Contents(shape, blocks, (path / ROOT,), known, drops=drops)

    def _stations(self, path: Path) -> tuple[float, Any]:
        """The carrier, and a function that gives the records one after the other."""
        try:
            import channels4world as c4w
        except ImportError as error:
            raise StoreError(
                "layout channels4world needs the package channels4world; pip install 'airlam[channels4world]'"
            ) from error
        try:
            data = c4w.open(path)
            carriers = [int(hz) for hz in data.frequencies_hz]
            wanted = self.description.carrier_hz
            if wanted is None and len(carriers) != 1:
                listed = ", ".join(map(str, carriers))
                raise RecipeError(f"{path} has the carriers {listed}; say which with --carrier-hz")
            carrier = carriers[0] if wanted is None else int(wanted)
            chosen = data.select(
                scene_ids=self.scenes,
                frequencies_hz=[carrier],
                bs_ids=None if self.tx is None else [self.tx],
                components=("core", "positions"),
            ).local()
        except RecipeError:
            raise
        except Exception as error:  # C4WError, OSError, KeyError, pyarrow's, ...
            reason = " ".join(str(error).split())[:160]
            raise StoreError(f"{path} cannot be read by channels4world ({reason})") from error

        def stations() -> Iterator[Station]:
            try:
                scene, places = "", (np.empty(0), np.empty(0))
                for record in chosen.records():
                    if record.scene_id != scene:
                        positions = data.scene(record.scene_id).read_positions()
                        scene, places = record.scene_id, (positions.bs, positions.ue)
                    yield Station(record, places[0][record.bs_id], places[1])
            except c4w.C4WError as error:
                reason = " ".join(str(error).split())[:160]
                raise StoreError(f"{path} cannot be read by channels4world ({reason})") from error

        return float(carrier), stations

    def _links(self, station: Station, grid: PathGrid, velocities: np.ndarray) -> Iterator[LinkBlock]:
        """The links of one record, some at once."""
        from channels4world import transforms

        record = station.record
        padded = {
            name: transforms.pad_paths(record.core, name)[0].astype(np.float64)
            for name in ("tau", "theta_t", "phi_t", "theta_r", "phi_r")
        }
        gain, there = transforms.pad_paths(record.core, transforms.baseband_coefficients(record))
        los = (transforms.pad_paths(record.core, "interaction_count")[0] == 0) & there
        step = links_at_once((1, grid.slots, grid.tones, 3 * gain.shape[1] + grid.shape[-1]))
        for start in range(0, len(gain), step):
            part = slice(start, start + step)
            departure = np.stack([padded["theta_t"][part], padded["phi_t"][part] - self.azimuth])
            arrival = np.stack([padded["theta_r"][part], padded["phi_r"][part]])
            paths = Paths(gain[part], padded["tau"][part], departure, arrival)
            users = station.users[record.ue_ids[part]].astype(np.float64)
            truth = {
                "position": users - station.base * [1, 1, 0],  # x and y from the base station, z above the ground
                "los": los[part].any(1),
                "delay_spread": transforms.delay_spread(record)[part],
                "velocity": velocities[part],
            }
            yield LinkBlock(grid.csi(paths, velocities[part]), np.full(len(users), grid.speed), truth)
