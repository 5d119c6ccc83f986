"""TDL-A to TDL-E of TR 38.901 clause 7.7.2: Rayleigh (or Rician) taps with Clarke's Doppler spectrum."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from airlam.channels.channel_model import Chunk, write_normalised
from airlam.channels.delay_line import DelayLine
from airlam.channels.drops import draw_uniform
from airlam.channels.ray_evaluation import stock_response
from airlam.channels.ray_response import sum_rays
from airlam.channels.sionna_stream import import_sionna, sionna_stream
from airlam.constants import SPEED_OF_LIGHT

_NUM_SINUSOIDS = 20  # per tap: Sionna's default
_LOS_COSINE = 0.7  # the specular path's Doppler shift is 0.7 of the largest (clause 7.7.2)


class TappedDelayLine(DelayLine):
    """A tapped delay line between every pair of antennas, independent of the other pairs.

    **No antenna geometry:** panels only count ports, their pattern and spacing do nothing, and beams mean nothing. Of a
    velocity only its length means something; it is given as along +x. A delay spread ``[min, max]`` is drawn per link,
    uniform in its logarithm. There is no path loss and there are no rays: ``return_rays`` is refused.
    """

    def make_chunk(self, h, power, generator, sionna_seed, return_rays):
        if return_rays:
            raise ValueError(f"{self.recipe['scenario']} has no rays: its antennas fade independently; use a cdl_*")
        import_sionna()
        from sionna.phy.channel.tr38901 import TDL

        r, count, num_links = self.recipe, self.drops_per_chunk, len(h)
        delay_spread = draw_uniform(r["delay_spread"], (count,), generator, log=True)
        low, high = np.broadcast_to(np.asarray(r["speed_kmh"]) / 3.6, 2).tolist()
        model = TDL(
            model=r["scenario"][-1].upper(),
            delay_spread=1.0,  # delays come normalised and are scaled per link below
            carrier_frequency=r["carrier_frequency"],
            num_sinusoids=_NUM_SINUSOIDS,
            los_angle_of_arrival=math.acos(_LOS_COSINE),
            min_speed=low,
            max_speed=high,
            num_rx_ant=self.num_rx_ant,
            num_tx_ant=self.num_tx_ant,
            precision="single",
            device="cpu",
        )
        grid = self.grid(h.shape[1])
        with sionna_stream(sionna_seed):
            draw = _Draws(model, count, self.num_rx_ant, self.num_tx_ant, speeds=(low, high))
        if r["fast"] == "stock":
            with sionna_stream(sionna_seed):
                a, tau = model(count, h.shape[1], 1.0 / self.slot_duration)
            stock_response(a, tau * delay_spread[:, None, None, None], grid, h, power)
        else:
            draw.response(delay_spread, r["carrier_frequency"], grid, h, power)
        delay, share = model.delays.double(), model.mean_powers.double() / model.mean_powers.double().sum()
        spread = ((share * delay.square()).sum() - (share * delay).sum().square()).sqrt()
        velocity = torch.zeros(count, 3)
        velocity[:, 0] = draw.speed
        return Chunk(
            gain=torch.ones(num_links),
            path_loss_db=torch.zeros(num_links),
            los=torch.full((num_links,), model.los),
            indoor=torch.zeros(num_links, dtype=torch.bool),
            delay_spread=(delay_spread * spread.float())[:num_links],
            position=torch.zeros(num_links, 3),
            velocity=velocity[:num_links],
        ), None


class _Draws:
    """The random numbers of one call of Sionna's TDL, in its order, so that both ways give the same links."""

    def __init__(self, model, count: int, num_rx: int, num_tx: int, speeds: tuple[float, float]) -> None:
        from sionna.phy.utils import rand

        def uniform(*shape):
            return rand(shape, dtype=torch.float32, device="cpu")

        taps, sines = model.num_clusters, _NUM_SINUSOIDS
        low, high = speeds
        self.speed = low + (high - low) * uniform(count)
        angle = uniform(count, taps, sines) * (2 * math.pi / sines) - math.pi / sines
        self.cosine = (angle + 2 * math.pi / sines * torch.arange(1, sines + 1)).cos()
        self.phase = uniform(count, num_rx * num_tx, taps, sines) * 2 * math.pi - math.pi
        self.los_phase = uniform(count) * 2 * math.pi - math.pi if model.los else None
        self.delay, self.power = model.delays, model.mean_powers.clone()
        if model.los:
            self.los_power = model.mean_power_los
            self.power[0] -= self.los_power

    def response(self, delay_spread: Tensor, carrier_frequency: float, grid, h: Tensor, power: Tensor) -> None:
        """Fill ``h`` and ``power`` link by link, two at a time: the phases of 32 x 2 antennas are large."""

        step = 2
        for start in range(0, len(h), step):
            s = slice(start, start + step)  # of the chunk; the last block may reach beyond the links that are kept
            largest = (2 * math.pi * carrier_frequency / SPEED_OF_LIGHT * self.speed[s])[:, None, None]
            phase = self.phase[s].permute(0, 2, 3, 1)  # [link, tap, sinusoid, antenna pair]
            amplitude = (self.power / _NUM_SINUSOIDS).sqrt()[:, None, None].expand_as(phase)
            port, doppler = torch.polar(amplitude, phase), largest * self.cosine[s]
            delay = delay_spread[s, None] * self.delay
            if self.los_phase is not None:  # one more sinusoid of the first tap, in step at all antennas
                specular = torch.polar(self.los_power.sqrt().expand_as(self.los_phase[s]), self.los_phase[s])
                extra = port.new_zeros(*port.shape[:2], 1, port.shape[3])
                extra[:, 0, 0] = specular[:, None]
                port = torch.cat([port, extra], 2)
                doppler = torch.cat([doppler, (largest * _LOS_COSINE).expand(-1, doppler.shape[1], 1)], 2)
            response = sum_rays(delay, doppler, port, grid)
            write_normalised(response.transpose(1, 2).unflatten(-1, h.shape[-2:]), h[s], power[s])
