"""One Sionna model, evaluated the fast way where that holds and by Sionna itself elsewhere."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from airlam.channels import ray_capture, ray_response
from airlam.channels.channel_model import write_normalised
from airlam.channels.link_batch import Rays
from airlam.channels.ray_atoms import ray_atoms
from airlam.csi import from_sionna

_GEOMETRY_BLOCK = 32  # links whose angles and fields are worked out together: many small operations
_SUM_BLOCK_BYTES = 3 * 2**19  # of CSI summed together: what is in flight should stay in the cache


class RayEvaluation:
    """Runs a model whose coefficient generator hangs at ``attribute``.

    Args:
        model: Sionna's ``SystemLevelChannel`` or ``CDL``, down-link, on the CPU, single precision.
        attribute: name of its coefficient generator.
        stock: let Sionna evaluate the rays even where the fast way holds.

    The fast way holds for one flat panel at either end and without blockage; elsewhere Sionna evaluates. Both ways use
    the same random stream and give the same values to about 1e-6.
    """

    def __init__(self, model: torch.nn.Module, attribute: str, *, stock: bool) -> None:
        self.model = model
        self.capture = ray_capture.install(model, attribute)
        if self.capture is None:
            raise RuntimeError("airlam.channels needs sionna-no-rt 2.2: its ray generator was not found where it was")
        generator = self.capture.generator
        self.rx, self.tx = (ray_response.Panel.of(a) for a in (generator._rx_array, generator._tx_array))
        flat = self.rx is not None and self.tx is not None and getattr(model, "_blockage_model", None) is None
        self.fast = flat and not stock
        self.capture.evaluate = not self.fast
        if not (flat or stock):
            warnings.warn("this array or blockage needs Sionna's own, slower evaluation", stacklevel=2)

    @property
    def rays(self) -> ray_capture.CapturedRays:
        """The rays of the last run, the whole chunk."""
        return self.capture.rays

    def run(
        self,
        arguments: tuple,
        grid: tuple[int, float, int, float],
        h: Tensor,
        power: Tensor,
        *,
        delay_scale: Tensor | None = None,
        return_rays: bool = False,
    ) -> tuple[Tensor, Rays | None]:
        """Call the model and evaluate the first ``len(h)`` links of what it draws.

        Args:
            arguments: of the model's call.
            grid: number of slots, slot duration [s], number of subcarriers, subcarrier spacing [Hz].
            h: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``, filled with CSI of unit mean power.
            power: ``[link]``, filled with the mean power before that scaling.
            delay_scale: ``[link]``, multiplies the delays the model draws (of the whole chunk).

        Returns:
            the amplitude gain of each link that is not yet in ``power``, and the rays if asked for.
        """
        a, tau = self.model(*arguments)
        if delay_scale is not None:
            tau = tau * delay_scale[:, None, None, None]
            self.rays.delay *= delay_scale[:, None]
            self.rays.first_delay *= delay_scale
        if self.fast:
            gain = a.abs().flatten()[: len(h)]
            self._sum_rays(grid, h, power)
        else:
            gain = torch.ones(len(h))
            stock_response(a, tau, grid, h, power)
        if not return_rays:
            return gain, None
        if not self.fast:  # atoms need the mean power without path loss, which Sionna has already multiplied in
            power = torch.empty_like(power)
            self._sum_rays(grid, torch.empty_like(h), power)
        return gain, self._atoms(power)

    def _sum_rays(self, grid, h: Tensor, power: Tensor) -> None:
        step = max(1, _SUM_BLOCK_BYTES // (8 * h[0].numel()))
        for start in range(0, len(h), _GEOMETRY_BLOCK):
            stop = min(start + _GEOMETRY_BLOCK, len(h))
            rays = self.rays[start:stop].audible()
            table = ray_response.tabulate(rays, self.rx, self.tx, self.capture.generator._lambda_0)
            if rays.los.any():
                los = ray_response.line_of_sight(rays, self.rx, self.tx, self.capture.generator._lambda_0)
                table = ray_response.prepend(table, los)
            polarisation = table.polarisation()
            silent_from = polarisation.shape[1] - rays.power.shape[1] + (rays.power > 0).sum(1)
            for first in range(0, stop - start, step):
                s = slice(first, min(first + step, stop - start))
                groups = int(silent_from[s].max())
                port = ray_response.port_response(
                    polarisation[s, :groups], table.rx_steering[s, :groups], table.tx_steering[s, :groups]
                )
                response = ray_response.sum_rays(table.delay[s, :groups], table.doppler[s, :groups], port, grid)
                links = slice(start + s.start, start + s.stop)
                write_normalised(response.transpose(1, 2).unflatten(-1, h.shape[-2:]), h[links], power[links])

    def _atoms(self, mean_power: Tensor) -> Rays:
        if self.rx is None or self.tx is None:
            raise ValueError("rays are only returned for single flat panels")
        wavelength = self.capture.generator._lambda_0
        blocks = range(0, len(mean_power), _GEOMETRY_BLOCK)
        atoms = []
        for start in blocks:
            links = slice(start, min(start + _GEOMETRY_BLOCK, len(mean_power)))
            atoms.append(ray_atoms(self.rays[links].audible(), self.rx, self.tx, wavelength, mean_power[links]))
        return Rays.concatenate(atoms)


def stock_response(a: Tensor, tau: Tensor, grid, h: Tensor, power: Tensor) -> None:
    """Sionna's own way from an impulse response to CSI; fills ``h`` and ``power``."""
    from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies

    frequencies = subcarrier_frequencies(*grid[2:], precision="single", device="cpu")
    write_normalised(from_sionna(cir_to_ofdm_channel(frequencies, a, tau))[: len(h)], h, power)
