"""Takes the rays out of Sionna's channel models right before they are turned into an impulse response.

Sionna draws large-scale parameters, clusters, rays and (step 10 of TR 38.901 clause 7.5) phases, then its
``ChannelCoefficientsGenerator`` evaluates them antenna by antenna, ray by ray, slot by slot. :class:`RayCapture` stands
in for that generator: it draws the same phases from the same stream and keeps everything, so that
:mod:`airlam.channels.ray_response` can evaluate the rays faster. It reaches into private attributes; that is why the
package is pinned to ``sionna-no-rt==2.2.*``, why every use is checked first, and why parity is tested per scenario.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class CapturedRays:
    """The rays of a batch of links, links flattened to one axis. Angles in radians, global coordinates.

    Clusters come strongest first.

    Shapes: ``phase [link, cluster, ray, 4]``; ``aoa, aod, zoa, zod, xpr [link, cluster, ray]``;
    ``delay, power [link, cluster]``; ``first_delay, k_factor, los, los_aoa, los_aod, los_zoa, los_zod, distance
    [link]``; ``cluster_delay_spread [link]``, or None where clusters do not split; ``ray_delay_spread [link]``, or None
    where rays arrive with their cluster; ``velocity, tx_orientation, rx_orientation [link, 3]``.
    """

    phase: Tensor
    aoa: Tensor
    aod: Tensor
    zoa: Tensor
    zod: Tensor
    xpr: Tensor
    delay: Tensor
    power: Tensor
    first_delay: Tensor
    cluster_delay_spread: Tensor | None
    k_factor: Tensor
    los: Tensor
    los_aoa: Tensor
    los_aod: Tensor
    los_zoa: Tensor
    los_zod: Tensor
    distance: Tensor
    velocity: Tensor
    tx_orientation: Tensor
    rx_orientation: Tensor
    ray_delay_spread: Tensor | None = None

    def __len__(self) -> int:
        return self.delay.shape[0]

    def __getitem__(self, links: slice) -> CapturedRays:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen: dict[str, Any] = {name: None if value is None else value[links] for name, value in values.items()}
        return CapturedRays(**chosen)

    def audible(self) -> CapturedRays:
        """Without the clusters that are silent in every link (the two that split always stay)."""
        count = max(2, int((self.power > 0).any(0).sum()))
        names = ("phase", "aoa", "aod", "zoa", "zod", "xpr", "delay", "power")
        return replace(self, **{name: getattr(self, name)[:, :count] for name in names})


class RayCapture(torch.nn.Module):
    """Stands in for a model's coefficient generator and keeps what the generator was asked to evaluate.

    Args:
        generator: Sionna's own ``ChannelCoefficientsGenerator``.
        evaluate: True lets that generator do its work (the stock path) and only looks on; False returns a unit
            coefficient per link, which the model then multiplies by path loss and shadowing.
    """

    generator: Any

    def __init__(self, generator: torch.nn.Module, *, evaluate: bool = False) -> None:
        super().__init__()
        self.generator = generator
        self.evaluate = evaluate
        self.rays: CapturedRays | None = None

    def forward(self, num_time_samples, sampling_frequency, k_factor, rays, topology, c_ds=None):
        if self.evaluate:
            h, delays, phase, _ = self.generator(
                num_time_samples, sampling_frequency, k_factor, rays, topology, c_ds, debug=True
            )
        else:
            phase = getattr(rays, "phases", None)  # drawn earlier when spatial consistency is on
            if phase is None:
                phase = self.generator._step_10(rays.aoa.shape)
            shape = rays.delays.shape[:3]
            h = torch.ones(*shape, 1, 1, 1, 1, dtype=self.generator.cdtype)
            delays = torch.zeros(*shape, 1, dtype=self.generator.dtype)
        self.rays = _flatten(phase, k_factor, rays, topology, c_ds, self.generator._subclustering)
        return h, delays


def install(model: torch.nn.Module, attribute: str) -> RayCapture | None:
    """Put a :class:`RayCapture` in the place of ``model.<attribute>``; None where Sionna is not as expected."""
    generator = getattr(model, attribute, None)
    needed = ("_step_10", "_subclustering", "_tx_array", "_rx_array")
    if not isinstance(generator, torch.nn.Module) or not all(hasattr(generator, name) for name in needed):
        return None
    capture = RayCapture(generator)
    setattr(model, attribute, capture)  # a Module, or torch would refuse it
    return capture


def _flatten(phase, k_factor, rays, topology, c_ds, subclustering: bool) -> CapturedRays:
    """Sionna's ``[batch, tx, rx, ...]`` to ``[link, ...]`` with links running over batch, then rx, then tx."""
    batch, num_tx, num_rx = rays.delays.shape[:3]
    if topology.moving_end != "rx":
        raise NotImplementedError("rays are captured for base stations that transmit to moving users")

    def links(x: Tensor) -> Tensor:
        return x.expand(batch, num_tx, num_rx, *x.shape[3:]).transpose(1, 2).flatten(0, 2)

    # Strongest cluster first: the first two are those that split, the last ones those below -25 dB, without power.
    power = links(rays.powers)
    order = power.argsort(dim=-1, descending=True, stable=True)

    def clusters(x: Tensor) -> Tensor:
        x = links(x)
        return x.gather(1, order.reshape(*order.shape, *[1] * (x.dim() - 2)).expand_as(x))

    return CapturedRays(
        phase=clusters(phase),
        aoa=clusters(rays.aoa),
        aod=clusters(rays.aod),
        zoa=clusters(rays.zoa),
        zod=clusters(rays.zod),
        xpr=clusters(rays.xpr),
        delay=clusters(rays.delays),
        power=clusters(rays.powers),
        first_delay=links(rays.delays).amin(1),
        cluster_delay_spread=links(c_ds) if subclustering else None,
        k_factor=links(k_factor),
        los=links(topology.los),
        los_aoa=links(topology.los_aoa),
        los_aod=links(topology.los_aod),
        los_zoa=links(topology.los_zoa),
        los_zod=links(topology.los_zod),
        distance=links(topology.distance_3d),
        velocity=links(topology.velocities[:, None]),
        tx_orientation=links(topology.tx_orientations[:, :, None].expand(-1, -1, num_rx, -1)),
        rx_orientation=links(topology.rx_orientations[:, None]),
    )


def rms_delay_spread(rays: CapturedRays) -> Tensor:
    """RMS delay spread [s] of each link's realised powers (line of sight and sub-clusters included), ``[link]``."""
    delay, power = rays.delay.double(), rays.power.double()
    if rays.cluster_delay_spread is not None:
        # 10, 6 and 4 of the 20 rays of the two strongest clusters, at offsets 0, 1.28 and 2.56 c_DS (table 7.5-5)
        offset, strong_delay, strong_power = rays.cluster_delay_spread.double()[:, None], delay[:, :2], power[:, :2]
        delay = torch.cat([delay, strong_delay + 1.28 * offset, strong_delay + 2.56 * offset], 1)
        power = torch.cat([0.5 * strong_power, power[:, 2:], 0.3 * strong_power, 0.2 * strong_power], 1)
    k = torch.where(rays.los, rays.k_factor, torch.zeros_like(rays.k_factor)).double()[:, None]
    total = power.sum(1, keepdim=True)
    power = torch.cat([power / (k + 1), total * k / (k + 1)], 1)
    return _rms(torch.cat([delay, rays.first_delay.double()[:, None]], 1), power)


def path_delay_spread(a: Tensor, tau: Tensor) -> Tensor:
    """The same from an impulse response in Sionna's order, antennas' patterns included; for want of rays."""
    power = (a.real.square() + a.imag.square()).double().mean((2, 4, 6)).flatten(0, 2)
    return _rms(tau.double().flatten(0, 2), power)


def _rms(delay: Tensor, power: Tensor) -> Tensor:
    power = power / power.sum(1, keepdim=True)
    mean = (power * delay).sum(1, keepdim=True)
    return (power * (delay - mean).square()).sum(1).sqrt().float()
