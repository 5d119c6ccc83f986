"""The base of every channel model: chunks, seeds, normalisation, and the batch that comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from airlam.channels.array_errors import mixing
from airlam.channels.link_batch import LinkBatch, Rays
from airlam.csi import PortShape
from airlam.recipes import check_choice, check_number, find_class, is_class_path


@dataclass
class Chunk:
    """Truth about the links of one chunk, ``[link, ...]``; ``gain`` is a linear amplitude."""

    gain: Tensor
    path_loss_db: Tensor
    los: Tensor
    indoor: Tensor
    delay_spread: Tensor
    position: Tensor
    velocity: Tensor

    @classmethod
    def without_geometry(cls, velocity: Tensor, *, los: bool = False) -> Chunk:
        """For models without places and path loss, from the velocities ``[link, 3]`` m/s: all else is zero."""
        zeros = torch.zeros(len(velocity))
        flags = torch.zeros(len(velocity), dtype=torch.bool)
        return cls(zeros + 1, zeros, flags | los, flags, zeros, torch.zeros(len(velocity), 3), velocity)


class ChannelModel(ABC):
    """A resolved recipe that makes links. Get one from :func:`airlam.channels.load_channel`.

    A class of your own derives from this one, brings :meth:`make_chunk` and is named in a recipe: ``scenario:
    my_channel.MyChannel``. See docs/extending.md.

    Links come in chunks of a fixed number of drops, and each chunk has its own stream of random numbers, fixed by
    (seed, number of the chunk). So the same seed gives the same bits, and ``sample(n)`` begins ``sample(n + m)``:
    Sionna's draws depend on the size of the batch, which is therefore part of the recipe (``chunk``).

    Attributes:
        recipe: the resolved recipe; plain data.
        keys: of a class: further keys of its recipe, with their defaults. The constructor or :meth:`check_recipe`
            checks their values.
    """

    keys: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def recipe_keys(cls, scenario: str) -> dict[str, Any]:
        """Keys of a recipe of this scenario beside those that all have (:mod:`airlam.channels.recipe`), with their
        defaults; also such of those as have another default here."""
        return {"state": "random", "links_per_drop": 1, **cls.keys}

    @classmethod
    def check_recipe(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The values of :meth:`recipe_keys`, checked, from a recipe in which no key is missing.

        Raises:
            RecipeError: names the key, its value and the bound.
        """
        return {
            **{key: recipe[key] for key in cls.keys},
            "state": check_choice("state", recipe["state"], ("los", "nlos", "indoor", "outdoor", "random")),
            "links_per_drop": check_number("links_per_drop", recipe["links_per_drop"], 1, 10_000, integer=True),
        }

    def __init__(self, recipe: dict) -> None:
        self.recipe = recipe

    def __reduce__(self):
        # by the recipe: another process has to find a class of the current folder again
        outside = is_class_path(self.recipe.get("scenario"))
        return (_make_again, (self.recipe,)) if outside else (type(self), (self.recipe,))

    def __repr__(self) -> str:
        r = self.recipe
        return (
            f"{type(self).__name__}({r['scenario']}, {r['state']}, {r['carrier_frequency'] / 1e9:g} GHz, "
            f"{self.num_rx_ant} x {self.num_tx_ant} antennas, {self.num_subcarriers} x "
            f"{self.subcarrier_spacing / 1e3:g} kHz, slot {self.slot_duration * 1e3:g} ms)"
        )

    @property
    def port_shape(self) -> PortShape:
        """(polarisations, columns, rows) of the base station's ports."""
        panel = self.recipe["bs_panel"]
        return (1 + (panel["polarisation"] == "dual"), panel["columns"], panel["rows"])

    @property
    def num_tx_ant(self) -> int:
        return int(np.prod(self.port_shape))

    @property
    def num_rx_ant(self) -> int:
        panel = self.recipe["ut_panel"]
        return (1 + (panel["polarisation"] == "dual")) * panel["columns"] * panel["rows"]

    @property
    def num_subcarriers(self) -> int:
        return self.recipe["num_subcarriers"]

    @property
    def subcarrier_spacing(self) -> float:
        """Hz."""
        return self.recipe["subcarrier_spacing"]

    @property
    def slot_duration(self) -> float:
        """s."""
        return self.recipe["slot_duration"]

    @property
    def carrier_frequency(self) -> float:
        """Hz."""
        return self.recipe["carrier_frequency"]

    @property
    def links_per_drop(self) -> int:
        return self.recipe.get("links_per_drop", 1)

    @property
    def drops_per_chunk(self) -> int:
        return max(1, self.recipe["chunk"] // self.links_per_drop)

    def grid(self, num_slots: int) -> tuple[int, float, int, float]:
        """Number of slots, slot duration [s], number of subcarriers, their spacing [Hz]."""
        return (num_slots, self.slot_duration, self.num_subcarriers, self.subcarrier_spacing)

    def sample(self, num_links: int, num_slots: int, *, seed: int, return_rays: bool = False) -> LinkBatch:
        """Draw links.

        Args:
            num_links: at least 1 and a multiple of ``links_per_drop``.
            num_slots: slots of each link, history and horizon together: two calls are two realisations.
            seed: at least 0; the same seed gives the same bits on the same machine.
            return_rays: also return the rays behind each link (CDL and the system-level models), for the genie.

        Example:
            >>> from airlam.channels import load_channel
            >>> batch = load_channel("uma_nlos").sample(4, 20, seed=1)
            >>> batch.h.shape
            torch.Size([4, 20, 48, 1, 32])
        """
        num_links = check_count(num_links, "num_links", 1)
        num_slots = check_count(num_slots, "num_slots", 1)
        seed = check_count(seed, "seed", 0)
        per_drop = self.links_per_drop
        if num_links % per_drop:
            up = num_links - num_links % per_drop + per_drop
            choices = f"{up - per_drop} or {up}" if up > per_drop else f"{up}"
            raise ValueError(
                f"num_links is {num_links}, but drops of {per_drop} links cannot be split; ask for {choices}"
            )
        # From numpy, which asks for huge pages: touching fresh memory otherwise costs a third of the whole generation
        shape = (num_links, num_slots, self.num_subcarriers, self.num_rx_ant, self.num_tx_ant)
        h = torch.from_numpy(np.empty(shape, np.complex64))
        power = torch.empty(num_links)
        per_chunk = self.drops_per_chunk * per_drop
        chunks: list[Chunk] = []
        rays: list[Rays] = []
        with torch.no_grad():
            for number, start in enumerate(range(0, num_links, per_chunk)):
                out = slice(start, min(start + per_chunk, num_links))
                topology_seed, sionna_seed = np.random.SeedSequence([seed, number]).generate_state(2, np.uint64)
                generator = torch.Generator().manual_seed(int(topology_seed))
                chunk, atoms = self.make_chunk(h[out], power[out], generator, int(sionna_seed), return_rays)
                if self.recipe.get("array_errors"):
                    self._distort(h[out], power[out], atoms, torch.Generator().manual_seed(int(topology_seed) ^ 1))
                chunks.append(chunk)
                if atoms is not None:
                    rays.append(atoms)
        truth = {name: torch.cat([getattr(c, name) for c in chunks]) for name in Chunk.__dataclass_fields__}
        gain = truth.pop("gain")
        return LinkBatch(
            h=h,
            gain_db=10 * power.log10() + 20 * gain.log10(),
            speed=torch.linalg.vector_norm(truth["velocity"], dim=-1),
            drop=torch.arange(num_links) // per_drop,
            carrier_frequency=self.carrier_frequency,
            slot_duration=self.slot_duration,
            subcarrier_spacing=self.subcarrier_spacing,
            port_shape=self.port_shape,
            recipe={**self.recipe, "seed": seed},
            rays=Rays.concatenate(rays) if return_rays else None,
            **truth,
        )

    def _distort(self, h: Tensor, power: Tensor, rays: Rays | None, generator: torch.Generator) -> None:
        """Put the errors of the array into CSI, its power and its rays."""
        drop = torch.arange(len(h)) // self.links_per_drop
        by_link = mixing(self.recipe["array_errors"], self.port_shape, self.drops_per_chunk, generator)[drop]
        change = torch.empty_like(power)
        write_normalised(h @ by_link[:, None, None], h, change)
        power *= change
        if rays is not None:
            array = rays.array.unflatten(-1, (self.num_rx_ant, self.num_tx_ant))
            rays.array = (array @ by_link[:, None]).flatten(-2)
            rays.power, rays.coefficient = rays.power / change[:, None], rays.coefficient / change.sqrt()[:, None]

    @abstractmethod
    def make_chunk(
        self, h: Tensor, power: Tensor, generator: torch.Generator, sionna_seed: int, return_rays: bool
    ) -> tuple[Chunk, Rays | None]:
        """Fill ``h [link, slot, subcarrier, rx_ant, tx_ant]`` (unit mean power) and ``power [link]`` (before scaling,
        without ``Chunk.gain``) with the first links of a chunk; always draw the whole chunk."""


def _make_again(recipe: dict) -> ChannelModel:
    return find_class(recipe["scenario"], "scenario")(recipe)


def write_normalised(response: Tensor, h: Tensor, power: Tensor) -> None:
    """Put ``response``, any strides, into ``h`` with unit mean power per link, and the power it had into ``power``.

    Links beyond ``len(h)`` are left out, after they were treated alike: no bit of a link depends on how many are kept.
    """
    parts, keep = torch.view_as_real(response), len(h)
    mean = torch.linalg.vector_norm(parts, dim=tuple(range(1, parts.dim()))).square() / response[0].numel()
    scale = torch.where(mean > 0, mean.rsqrt(), torch.ones_like(mean))
    power.copy_(mean[:keep])
    torch.mul(response[:keep], scale[:keep].reshape(-1, 1, 1, 1, 1), out=h)


def check_count(value: object, name: str, low: int) -> int:
    """``value`` as an int of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < low:
        raise ValueError(f"{name} is {value}, but must be at least {low}")
    return int(value)
