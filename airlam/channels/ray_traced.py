"""Users who walk and drive through a ray-traced scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airlam.channels.channel_model import ChannelModel, Chunk, write_normalised
from airlam.channels.drops import draw_uniform
from airlam.channels.ray_response import port_response, rotation, unit_phasor
from airlam.channels.ray_tracing import RAY_TRACED_KEYS, SCENES, check_ray_traced, import_ray_tracing
from airlam.constants import SPEED_OF_LIGHT
from airlam.errors import RecipeError
from airlam.recipes import check_choice

USER_HEIGHT = 1.5  # m above ground
SECTOR = math.pi / 3  # users stand within 60 degrees of the panel's bearing
NEAREST = 10.0  # m from the base station
_CANDIDATES = 64  # spots drawn per user; the first that is outdoors, with a free way, is taken
_ROUNDS = 40  # of tracing, until every user of a chunk is reached by rays
_SKY = 1000.0  # m, above every roof
_DIFFUSE, _DIFFRACTION = 2, 8  # sionna.rt.InteractionType


@dataclass
class Tracks:
    """Straight tracks. ``start, heading [user, 3]`` (heading: horizontal unit vector), ``speed [user]`` m/s,
    ``orientation [user, 3]`` rad, how the device is held."""

    start: Tensor
    heading: Tensor
    speed: Tensor
    orientation: Tensor

    def __getitem__(self, index) -> Tracks:
        return Tracks(self.start[index], self.heading[index], self.speed[index], self.orientation[index])


@dataclass
class TracedPaths:
    """What a link sees at one key position ``[position, path, ...]``; paths that are not there have no amplitude.

    Attributes:
        gain: ``complex [position, path, rx_pol, tx_pol]``, without the phase of the delay.
        delay: ``float64`` s.
        arrival, departure: unit vectors away from user and base station ``[..., 3]``.
        source: m, distance to the point that stays where it is while the user moves: the mirror image of the base
            station, or the last edge that diffracts.
        direct: ``bool``, the line of sight.
    """

    gain: Tensor
    delay: Tensor
    arrival: Tensor
    departure: Tensor
    source: Tensor
    direct: Tensor


class RayTracedChannel(ChannelModel):
    """Links to users on straight tracks through one of Sionna RT's scenes. All drops of all seeds share the *site*.

    Rays are traced at key positions, every ``key_distance`` metres along a track. Between two of them each path's
    length changes exactly as the distance to its mirror image (or to its last diffracting edge) does, and the
    responses seen from the two keys are blended linearly. So phases advance as path lengths do, delays drift, and a
    path that is seen from one key alone appears or vanishes over ``key_distance``, about as far as diffraction
    blurs a shadow.

    Positions are in the scene's axes, relative to the base station; users without any path are not drawn.
    There are no ``rays`` to return.

    Example:
        >>> from airlam.channels import load_channel
        >>> batch = load_channel("rt_munich").sample(4, 20, seed=1)      # doctest: +SKIP
        >>> batch.h.shape                                                # doctest: +SKIP
        torch.Size([4, 20, 48, 1, 32])
    """

    keys = RAY_TRACED_KEYS

    @classmethod
    def check_recipe(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        check_choice("state", recipe["state"], ("los", "nlos", "random"))
        return super().check_recipe(recipe) | check_ray_traced(recipe)

    def __init__(self, recipe: dict) -> None:
        super().__init__(recipe)
        self._tracer: Tracer | None = None

    def make_chunk(self, h, power, generator, sionna_seed, return_rays):
        if return_rays:
            raise ValueError("ray-traced links have no rays to return: their phases and powers are not random")
        self._tracer = self._tracer or Tracer(self.recipe)
        num_users, num_slots = self.drops_per_chunk * self.links_per_drop, h.shape[1]
        distance = self.recipe["key_distance"]
        fastest = np.max(self.recipe["speed_kmh"]) / 3.6
        num_keys = 1 + max(1, math.ceil(fastest * self.slot_duration * (num_slots - 1) / distance - 1e-9))
        tracks, found = self._users(num_users, num_keys, generator)
        links = slice(0, len(h))
        response = torch.stack([self._response(tracks[[u]], paths, num_slots) for u, paths in enumerate(found[links])])
        write_normalised(response, h, power)
        first = [paths.gain[0].abs().square().sum((-2, -1)) for paths in found[links]]
        base_station = torch.tensor(self.recipe["bs_position"])
        position = tracks.start - base_station
        position[:, 2] = USER_HEIGHT
        return Chunk(
            gain=torch.ones(len(h)),
            path_loss_db=torch.zeros(len(h)),
            los=torch.stack([is_los(paths) for paths in found[links]]),
            indoor=torch.zeros(len(h), dtype=torch.bool),
            delay_spread=torch.stack(
                [rms_spread(p.delay[0], w) for p, w in zip(found[links], first, strict=True)]
            ).float(),
            position=position[links],
            velocity=(tracks.heading * tracks.speed[:, None])[links],
        ), None

    def _users(self, num_users: int, num_keys: int, generator: torch.Generator) -> tuple[Tracks, list[TracedPaths]]:
        """The first ``num_users`` tracks that are reached by rays everywhere and are in the recipe's state."""
        assert self._tracer is not None
        kept: list[Tracks] = []
        found: list[TracedPaths] = []
        length = (num_keys - 1) * self.recipe["key_distance"]
        keys = self.recipe["key_distance"] * torch.arange(num_keys)
        for _ in range(_ROUNDS):
            # tracing is what takes time: after the first round no more than it will take
            tracks = self._tracer.draw(num_users, length, generator)[: 2 * (num_users - len(kept))]
            if not len(tracks.start):
                continue
            where = tracks.start[:, None] + keys[:, None] * tracks.heading[:, None]
            for user, paths in enumerate(self._tracer.trace(where, tracks.orientation)):
                reached = (paths.gain.abs().sum((-2, -1)) > 0).any(1).all()
                wanted = self.recipe["state"] in ("random", "los" if is_los(paths) else "nlos")
                if reached and wanted:
                    kept.append(tracks[[user]])
                    found.append(paths)
                if len(kept) == num_users:
                    whole = (torch.cat([getattr(t, name) for t in kept]) for name in Tracks.__dataclass_fields__)
                    return Tracks(*whole), found
        raise RecipeError(
            f"only {len(kept)} of {num_users} users in state {self.recipe['state']} were found in {_ROUNDS} rounds: "
            "rays reach too few places; raise max_distance or max_depth, or move bs_position"
        )

    def _response(
        self, track: Tracks, paths: TracedPaths, num_slots: int, bs_orientation: Tensor | None = None
    ) -> Tensor:
        """CSI of one user ``complex64 [slot, subcarrier, rx_ant, tx_ant]``."""
        distance = self.recipe.get("key_distance", 1.0)
        walked = track.speed.double() * self.slot_duration * torch.arange(num_slots)
        segment = (walked / distance).floor().clamp(max=len(paths.delay) - 2).long()
        share = walked / distance - segment
        panel = _bs_orientation(self.recipe) if bs_orientation is None else bs_orientation
        ports = self._ports(paths, track.orientation, panel)
        tones = self.subcarrier_spacing * (torch.arange(self.num_subcarriers) - self.num_subcarriers // 2)
        frequency = self.carrier_frequency + tones.double()
        out = torch.zeros(num_slots, self.num_subcarriers, ports.shape[-1], dtype=torch.complex64)
        for key in range(len(paths.delay)):
            # a key's weight falls linearly to zero at its neighbours
            weight = torch.where(segment == key, 1 - share, torch.where(segment == key - 1, share, 0.0))
            weight = torch.ones_like(weight) if len(paths.delay) == 1 else weight
            slots = weight.nonzero()[:, 0]
            heard = paths.gain[key].abs().sum((-2, -1)) > 0
            if not len(slots) or not heard.any():
                continue
            moved = (walked[slots] - key * distance)[:, None] * track.heading.double()
            change = length_change(paths.source[key, heard], paths.arrival[key, heard], moved)
            delay = paths.delay[key, heard] + change / SPEED_OF_LIGHT  # [slot, path]
            turns = delay[:, None, :] * frequency[:, None]
            phasor = unit_phasor((-2 * math.pi * turns.frac()).float()) * weight[slots, None, None].float()
            out[slots] += phasor @ ports[key, heard]
        return out.unflatten(-1, (self.num_rx_ant, self.num_tx_ant))

    def _ports(self, paths: TracedPaths, orientation: Tensor, bs_orientation: Tensor) -> Tensor:
        """Response of all antenna pairs to each path ``complex64 [key, path, rx_ant * tx_ant]``."""
        rx = steering(self.recipe["ut_panel"], paths.arrival, orientation.double())
        tx = steering(self.recipe["bs_panel"], paths.departure, bs_orientation[None].double())
        return port_response(paths.gain, rx, tx)


class Tracer:
    """Sionna RT on one scene with the recipe's base station; made once per channel model."""

    def __init__(self, recipe: dict) -> None:
        self.rt: Any = import_ray_tracing()
        self.recipe = recipe
        self.scene = self.rt.load_scene(getattr(self.rt.scene, recipe["scene"]))
        self.scene.frequency = recipe["carrier_frequency"]
        for end, name in (("tx_array", "bs_panel"), ("rx_array", "ut_panel")):
            setattr(self.scene, end, self._element(recipe[name]))
        self.add_stations()
        self.solver = self.rt.PathSolver(deterministic=True)
        self.ground = self.scene.objects[SCENES[recipe["scene"]].ground].mi_mesh

    def add_stations(self) -> None:
        """Put the base station into the scene."""
        orientation = _bs_orientation(self.recipe).tolist()
        self.scene.add(self.rt.Transmitter("bs", list(self.recipe["bs_position"]), orientation=orientation))

    def _element(self, panel: dict):
        """One element with its polarisations: the panel itself is applied to the paths, see :func:`steering`."""
        dual = panel["polarisation"] == "dual"
        return self.rt.PlanarArray(
            num_rows=1,
            num_cols=1,
            pattern="tr38901" if panel["pattern"] == "38.901" else "iso",
            polarization="cross" if dual else "V",
        )

    def draw(self, num_users: int, length: float, generator: torch.Generator) -> Tracks:
        """Tracks of ``length`` metres, outdoors and free of obstacles; fewer than asked for where there are none."""
        shape = (num_users, _CANDIDATES)
        speed = draw_uniform(self.recipe["speed_kmh"], (num_users,), generator) / 3.6
        orientation = math.pi * (torch.rand(num_users, 3, generator=generator) - 0.5)
        squared = torch.rand(shape, generator=generator) * (self.recipe["max_distance"] ** 2 - NEAREST**2) + NEAREST**2
        bearing = SECTOR * (2 * torch.rand(shape, generator=generator) - 1)
        bearing = bearing + math.radians(self.recipe["bs_bearing_deg"])
        heading = 2 * math.pi * torch.rand(shape, generator=generator)
        x = self.recipe["bs_position"][0] + squared.sqrt() * bearing.cos()
        y = self.recipe["bs_position"][1] + squared.sqrt() * bearing.sin()
        way = torch.stack((heading.cos(), heading.sin(), torch.zeros(shape)), -1)
        height, outdoors = self.look_down(x.flatten(), y.flatten())
        start = torch.stack((x, y, height.view(shape) + USER_HEIGHT), -1)
        end = start + length * way
        outdoors &= self.look_down(end[..., 0].flatten(), end[..., 1].flatten())[1]
        free = outdoors & self._free(start.flatten(0, 1), way.flatten(0, 1), length)
        first = free.view(shape).int().argmax(1)
        users = torch.arange(num_users)
        there = free.view(shape).any(1)
        return Tracks(start[users, first][there], way[users, first][there], speed[there], orientation[there])

    def look_down(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Height of what is seen from above, and whether that is the ground."""
        import drjit as dr
        import mitsuba as mi

        origin = mi.Point3f(mi.Float(x.numpy()), mi.Float(y.numpy()), mi.Float(_SKY))
        hit = self.scene.mi_scene.ray_intersect(mi.Ray3f(origin, mi.Vector3f(0, 0, -1)))
        is_ground = hit.is_valid() & (hit.shape == mi.ShapePtr(self.ground))
        height = dr.select(hit.is_valid(), hit.p.z, 0.0)
        return torch.from_numpy(height.numpy().copy()), torch.from_numpy(is_ground.numpy().copy())

    def _free(self, start: Tensor, way: Tensor, length: float) -> Tensor:
        """Whether nothing stands in the way."""
        import mitsuba as mi

        origin, direction = (mi.Vector3f(*(mi.Float(c.numpy()) for c in x.T.contiguous())) for x in (start, way))
        ray = mi.Ray3f(mi.Point3f(origin), direction)
        ray.maxt = mi.Float(length + 0.5)  # type: ignore[assignment, unused-ignore]  # nobody scrapes along a wall
        return torch.from_numpy(~self.scene.mi_scene.ray_test(ray).numpy())

    def trace(self, where: Tensor, orientation: Tensor, stations: int = 1) -> list[TracedPaths]:
        """Paths to every key position of each user, from each station.

        Args:
            where: ``[user, key, 3]`` m, in the scene's coordinates.
            orientation: ``[user, 3]`` rad.
            stations: how many there are.

        Returns:
            One entry for each user and station, stations running fastest.
        """
        num_users, num_keys = where.shape[:2]
        names = []
        for user in range(num_users):
            for key in range(num_keys):
                names.append(f"u{user}-{key}")
                place, held = where[user, key].tolist(), orientation[user].tolist()
                self.scene.add(self.rt.Receiver(names[-1], place, orientation=held))
        try:
            paths = self.solver(
                self.scene,
                max_depth=self.recipe["max_depth"],
                samples_per_src=self.recipe["num_samples"],
                diffraction=self.recipe["diffraction"],
                refraction=False,
            )
            found = [_collect(paths, station) for station in range(stations)]
        finally:
            for name in names:
                self.scene.remove(name)
        names = list(TracedPaths.__dataclass_fields__)
        parts = [[getattr(of_one, name).split(num_keys) for name in names] for of_one in found]
        by_user = [[TracedPaths(*of_user) for of_user in zip(*columns, strict=True)] for columns in parts]
        return [of_user for users in zip(*by_user, strict=True) for of_user in users]


def length_change(source: Tensor, arrival: Tensor, moved: Tensor) -> Tensor:
    """How much longer a path gets when its end moves while its source stays: ``|r + moved - p| - |r - p|`` [m].

    Args:
        source: ``[path]`` m, distance to the source ``p``; arrival: ``[path, 3]``, unit vector towards it.
        moved: ``[slot, 3]`` m.

    Returns:
        ``[slot, path]``, without the cancellation of subtracting two large lengths.

    Example:
        >>> towards = torch.tensor([[1.0, 0.0, 0.0]])
        >>> length_change(torch.tensor([100.0]), towards, torch.tensor([[0.5, 0.0, 0.0]]))
        tensor([[-0.5000]])
    """
    along = moved @ arrival.mT
    excess = moved.square().sum(-1, keepdim=True) - 2 * source * along
    return excess / ((source.square() + excess).clamp_min(0).sqrt() + source)


def steering(panel: dict, direction: Tensor, orientation: Tensor) -> Tensor:
    """Phasors of the panel's positions ``complex64 [..., position]``: columns, then rows from top to bottom.

    Args:
        panel: of a recipe; elements stand half a wavelength apart.
        direction: unit vectors away from the panel ``[..., 3]``.
        orientation: (bearing, downtilt, slant) ``[1, 3]`` rad.
    """
    local = direction @ rotation(orientation)[0]  # R^T u, rows
    column = torch.arange(panel["columns"], dtype=local.dtype) - (panel["columns"] - 1) / 2
    row = (panel["rows"] - 1) / 2 - torch.arange(panel["rows"], dtype=local.dtype)
    phase = math.pi * (local[..., 1, None, None] * column[:, None] + local[..., 2, None, None] * row)
    return unit_phasor(phase.flatten(-2).float())


def _bs_orientation(recipe: dict) -> Tensor:
    return torch.tensor([math.radians(recipe["bs_bearing_deg"]), math.radians(recipe["bs_downtilt_deg"]), 0.0])


def is_los(paths: TracedPaths) -> Tensor:
    return (paths.direct[0] & (paths.gain[0].abs().sum((-2, -1)) > 0)).any()


def rms_spread(delay: Tensor, power: Tensor) -> Tensor:
    """RMS delay spread of paths."""
    share = power.double() / power.sum().clamp_min(torch.finfo(power.dtype).tiny)
    mean = (share * delay).sum()
    return (share * (delay - mean).square()).sum().sqrt()


def _collect(paths, station: int = 0) -> TracedPaths:
    """Sionna's paths of one base station as tensors, by position."""
    real, imag = (np.array(part.numpy()) for part in paths.a)  # [rx, rx_pol, station, tx_pol, path]
    delay = torch.from_numpy(np.array(paths.tau.numpy()))[:, station].double()
    num_positions, num_paths = delay.shape
    if not num_paths:
        nothing = torch.zeros(num_positions, 1, 3, dtype=torch.float64)
        gain = torch.zeros(num_positions, 1, real.shape[1], real.shape[3], dtype=torch.complex64)
        return TracedPaths(gain, nothing[..., 0], nothing, nothing, nothing[..., 0], nothing[..., 0] > 0)
    valid = delay >= 0
    gain = torch.complex(torch.from_numpy(real), torch.from_numpy(imag))[:, :, station].movedim(-1, 1)
    gain = torch.where(valid[..., None, None], gain, 0)
    delay = delay.clamp_min(0)
    angles = {
        name: torch.from_numpy(np.array(getattr(paths, name).numpy()))[:, station].double()
        for name in ("theta_t", "phi_t", "theta_r", "phi_r")
    }
    arrival = _unit(angles["theta_r"], angles["phi_r"])
    departure = _unit(angles["theta_t"], angles["phi_t"])
    length = SPEED_OF_LIGHT * delay
    kind = np.array(paths.interactions.numpy())[:, :, station].astype(np.int64)  # [depth, position, path]
    source, direct = length, torch.from_numpy((kind == 0).all(0)) & valid
    place = torch.from_numpy(np.array(paths.vertices.numpy())[:, :, station]).double()  # [depth, position, path, 3]
    end = torch.from_numpy(np.array(paths.targets.numpy()).T).double()[:, None].expand(-1, num_paths, -1)
    # From the user back to the first point that scatters; beyond a mirror the sum of the legs is the distance
    walked, there, open_ = torch.zeros_like(length), end, torch.ones_like(valid)
    for depth in reversed(range(len(kind))):
        here = torch.from_numpy(kind[depth])
        leg = torch.where(here > 0, (place[depth] - there).norm(dim=-1), 0.0)
        walked = walked + leg
        there = torch.where((here > 0)[..., None], place[depth], there)
        stays = open_ & ((here == _DIFFRACTION) | (here == _DIFFUSE))
        source = torch.where(stays, walked, source)
        open_ = open_ & ~stays
    return TracedPaths(gain, delay, arrival, departure, source, direct)


def _unit(zenith: Tensor, azimuth: Tensor) -> Tensor:
    return torch.stack((zenith.sin() * azimuth.cos(), zenith.sin() * azimuth.sin(), zenith.cos()), -1)
