"""One Sionna model, evaluated the fast way where that holds and by Sionna itself elsewhere."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from airlam.channels import ray_capture, ray_response
from airlam.channels.channel_model import write_normalised
from airlam.channels.link_batch import Rays
from airlam.csi import from_sionna

_BLOCK_BYTES = 24 * 2**20  # of CSI per block: what is in flight at a time should stay in the cache


class RayEvaluation:
    """Runs a model whose coefficient generator hangs at ``attribute``.

    Args:
        model: Sionna's ``SystemLevelChannel`` or ``CDL``, down-link, on the CPU, single precision.
        attribute: name of its coefficient generator.
        stock: let Sionna evaluate the rays even where the fast way holds.
    """

    def __init__(self, model: torch.nn.Module, attribute: str, *, stock: bool) -> None:
        self.model = model
        self.capture = ray_capture.install(model, attribute, evaluate=stock)
        self.fast = not stock and self.capture is not None and ray_capture.can_evaluate_fast(model, self.capture)
        if self.capture is None:
            warnings.warn("this Sionna is not the tested 2.2: channels are made the slow way", stacklevel=2)
        else:
            self.capture.evaluate = not self.fast

    @property
    def rays(self) -> ray_capture.CapturedRays:
        """The rays of the last run, the whole chunk."""
        return self.capture.rays

    def run(
        self, arguments: tuple, frequencies: Tensor, h: Tensor, power: Tensor, *, return_rays: bool
    ) -> tuple[Tensor, Rays | None]:
        """Call the model, write the first ``len(h)`` links into ``h`` and ``power``; returns their gains and rays."""
        if not self.fast:
            return self._run_stock(arguments, frequencies, h, power), None
        gain, _ = self.model(*arguments)
        generator = self.capture.generator
        rx, tx = ray_response.Panel.of(generator._rx_array), ray_response.Panel.of(generator._tx_array)
        num_slots, sampling_frequency = arguments[-2:]
        times = torch.arange(num_slots, dtype=torch.float32) / sampling_frequency
        block = 16
        for start in range(0, len(h), block):
            links = slice(start, min(start + block, len(h)))
            groups = ray_response.group_rays(self.rays[links], rx, tx, generator._lambda_0)
            response = ray_response.frequency_response(groups, times, frequencies)
            response = response.transpose(1, 2).unflatten(-1, h.shape[-2:])
            write_normalised(response, h[links], power[links])
        return gain.abs().flatten()[: len(h)], None

    def _run_stock(self, arguments: tuple, frequencies: Tensor, h: Tensor, power: Tensor) -> Tensor:
        from sionna.phy.channel import cir_to_ofdm_channel

        a, tau = self.model(*arguments)
        response = from_sionna(cir_to_ofdm_channel(frequencies, a, tau))[: len(h)]
        # float32 loses nothing at path losses of 150 dB: amplitudes stay above 1e-8
        write_normalised(response, h, power)
        return torch.ones(len(h))
