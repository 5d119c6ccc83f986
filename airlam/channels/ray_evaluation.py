"""One Sionna model, evaluated the fast way where that holds and by Sionna itself elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from airlam.channels import ray_capture, ray_response
from airlam.channels.channel_model import write_normalised
from airlam.channels.link_batch import Rays
from airlam.channels.ray_atoms import ray_atoms
from airlam.channels.ray_capture import CapturedRays
from airlam.csi import from_sionna
from airlam.errors import RecipeError
from airlam.recipes import check_number

_GEOMETRY_BLOCK = 32  # links whose angles and fields are worked out together: many small operations
_SUM_BLOCK_BYTES = 3 * 2**19  # of CSI summed together: what is in flight should stay in the cache


class RayEvaluation:
    """Runs a model whose coefficient generator hangs at ``attribute``.

    Args:
        model: Sionna's ``SystemLevelChannel`` or ``CDL``, down-link, on the CPU, single precision.
        attribute: name of its coefficient generator.
        stock: let Sionna evaluate the rays even where the fast way holds.
        ray_delay_spread: [s]; rays of a cluster then arrive up to twice as long after its first one (TR 38.901 clause
            7.6.2.2), each at its own time.

    The fast way holds for one flat panel at either end and without blockage; elsewhere Sionna evaluates. Both ways use
    the same random stream and give the same values to about 1e-6. Where Sionna's generator is not where release 2.2 has
    it, Sionna also evaluates, and there are no rays to return.
    """

    def __init__(self, model: torch.nn.Module, attribute: str, *, stock: bool, ray_delay_spread: float = 0.0) -> None:
        self.model: Any = model
        self.ray_delay_spread = ray_delay_spread
        self.capture = ray_capture.install(model, attribute)
        if self.capture is None:
            warnings.warn("this Sionna keeps its rays elsewhere than 2.2: channels are made the slow way", stacklevel=2)
            self.fast = False
            return
        generator = self.capture.generator
        self.rx, self.tx = (ray_response.Panel.of(a) for a in (generator._rx_array, generator._tx_array))
        flat = self.rx is not None and self.tx is not None and getattr(model, "_blockage_model", None) is None
        self.fast = flat and not stock
        self.capture.evaluate = not self.fast
        if not (flat or stock):
            warnings.warn("this array or blockage needs Sionna's own, slower evaluation", stacklevel=2)

    @classmethod
    def of(cls, model: torch.nn.Module, attribute: str, recipe: dict) -> RayEvaluation:
        """From a channel recipe."""
        spread = recipe.get("ray_delay_spread", 0.0)
        return cls(model, attribute, stock=recipe["fast"] == "stock", ray_delay_spread=spread)

    def run(
        self,
        arguments: tuple,
        grid: tuple[int, float, int, float],
        h: Tensor,
        power: Tensor,
        *,
        delay_scale: Tensor | None = None,
        points: int | None = None,
        arrival: Callable[[CapturedRays], Tensor] | None = None,
        return_rays: bool = False,
    ) -> tuple[Tensor, Tensor, Rays | None]:
        """Call the model and evaluate the first ``len(h)`` links of what it draws.

        Args:
            arguments: of the model's call.
            grid: number of slots, slot duration [s], number of subcarriers, subcarrier spacing [Hz].
            h: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``, filled with CSI of unit mean power.
            power: ``[link]``, filled with the mean power before that scaling.
            delay_scale: ``[link]``, multiplies the delays the model draws (of the whole chunk).
            points: every so many links are the points of one path. The line of sight then has the phase of the first of
                them: how it turns on the way is its Doppler shift's, and would else count twice.
            arrival: from the rays to what is added to all delays of a link ``[link]`` s (of the whole chunk).

        Returns:
            the amplitude gain of each link that is not yet in ``power``, its RMS delay spread [s], and the rays if
            asked for.
        """
        a, tau = self.model(*arguments)
        if delay_scale is not None:
            tau = tau * delay_scale[:, None, None, None]
            if self.capture is not None and self.capture.rays is not None:
                self.capture.rays.delay *= delay_scale[:, None]
                self.capture.rays.first_delay *= delay_scale
        if self.ray_delay_spread:
            if not self.fast or self.capture is None or self.capture.rays is None:
                raise NotImplementedError("ray_delay_spread needs rays as Sionna 2.2 has them, and flat panels")
            self.capture.rays.ray_delay_spread = torch.full((len(self.capture.rays),), self.ray_delay_spread)
        if points is not None:
            if not self.fast or self.capture is None or self.capture.rays is None:
                raise NotImplementedError("tracks need rays as Sionna 2.2 has them, and flat panels without blockage")
            rays = self.capture.rays
            rays.distance = rays.distance[::points].repeat_interleave(points)
        if arrival is not None:
            if not self.fast or self.capture is None or self.capture.rays is None:
                raise NotImplementedError("absolute_delay needs rays as Sionna 2.2 has them, and flat panels")
            rays = self.capture.rays
            later = arrival(rays)
            rays.delay, rays.first_delay = rays.delay + later[:, None], rays.first_delay + later
        if self.fast:
            gain = a.abs().flatten()[: len(h)]
            self._sum_rays(grid, h, power)
        else:
            gain = torch.ones(len(h))
            stock_response(a, tau, grid, h, power)
        if self.capture is None or self.capture.rays is None:
            if return_rays:
                raise NotImplementedError("this Sionna keeps its rays elsewhere than 2.2: no rays to return")
            return gain, ray_capture.path_delay_spread(a, tau)[: len(h)], None
        delay_spread = ray_capture.rms_delay_spread(self.capture.rays[: len(h)])
        if not return_rays:
            return gain, delay_spread, None
        if not self.fast:  # atoms need the mean power without path loss, which Sionna has already multiplied in
            power = torch.empty_like(power)
            self._sum_rays(grid, torch.empty_like(h), power)
        return gain, delay_spread, self._atoms(power)

    def _sum_rays(self, grid, h: Tensor, power: Tensor) -> None:
        """Blocks lie the same however many links are kept, so that no bit of a link depends on that."""
        assert self.capture is not None and self.capture.rays is not None  # for the type checker: fast implies both
        assert self.rx is not None and self.tx is not None
        wavelength = self.capture.generator._lambda_0
        step = max(1, _SUM_BLOCK_BYTES // (8 * h[0].numel()))
        for start in range(0, len(h), _GEOMETRY_BLOCK):
            rays = self.capture.rays[start : start + _GEOMETRY_BLOCK].audible()
            table = ray_response.tabulate(rays, self.rx, self.tx, wavelength)
            if rays.los.any():
                table = ray_response.prepend(table, ray_response.line_of_sight(rays, self.rx, self.tx, wavelength))
            polarisation = table.polarisation()
            audible = polarisation.shape[1] - rays.power.shape[1] + (rays.power > 0).sum(1)
            for first in range(0, min(len(rays), len(h) - start), step):
                s = slice(first, first + step)
                # rays with delays of their own are groups of one ray each
                groups = table.delay.shape[1] if self.ray_delay_spread else int(audible[s].max())
                port = ray_response.port_response(
                    polarisation[s, :groups], table.rx_steering[s, :groups], table.tx_steering[s, :groups]
                )
                response = ray_response.sum_rays(table.delay[s, :groups], table.doppler[s, :groups], port, grid)
                links = slice(start + first, min(start + first + step, start + len(rays)))
                write_normalised(response.transpose(1, 2).unflatten(-1, h.shape[-2:]), h[links], power[links])

    def _atoms(self, mean_power: Tensor) -> Rays:
        if self.rx is None or self.tx is None or self.capture is None or self.capture.rays is None:
            raise ValueError("rays are only returned for single flat panels")
        wavelength = self.capture.generator._lambda_0
        blocks = range(0, len(mean_power), _GEOMETRY_BLOCK)
        atoms = []
        for start in blocks:
            links = slice(start, min(start + _GEOMETRY_BLOCK, len(mean_power)))
            atoms.append(ray_atoms(self.capture.rays[links].audible(), self.rx, self.tx, wavelength, mean_power[links]))
        return Rays.concatenate(atoms)


def check_ray_delay_spread(recipe: dict) -> None:
    """Checks the key ``ray_delay_spread`` of a resolved recipe, and takes it out where it is 0.

    Raises:
        RecipeError: out of bounds, or together with Sionna's own evaluation.
    """
    spread = check_number("ray_delay_spread", recipe.pop("ray_delay_spread"), 0.0, 1e-5, unit="s")
    if spread:  # else not there: hashes of recipes older than the key stay as they are
        recipe["ray_delay_spread"] = spread
        if recipe["fast"] == "stock":
            raise RecipeError("fast is 'stock', but ray_delay_spread needs airlam's evaluation of rays; leave it out")


def stock_response(a: Tensor, tau: Tensor, grid, h: Tensor, power: Tensor) -> None:
    """Sionna's own way from an impulse response to CSI; fills ``h`` and ``power``."""
    from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies

    frequencies = subcarrier_frequencies(*grid[2:], precision="single", device="cpu")
    write_normalised(from_sionna(cir_to_ofdm_channel(frequencies, a, tau))[: len(h)], h, power)
