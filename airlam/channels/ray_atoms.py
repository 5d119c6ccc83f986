"""Rays as the genie sees them: delay, Doppler, power and array vector of every atom, its phase unknown."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.channels import ray_response
from airlam.channels.link_batch import Rays
from airlam.channels.ray_capture import CapturedRays
from airlam.channels.ray_response import Panel, RayTable

_NEGLIGIBLE = 1e-6  # the weakest atoms are left out as long as together they hold less of the link's power than this


def ray_atoms(rays: CapturedRays, rx: Panel, tx: Panel, wavelength: Tensor, mean_power: Tensor) -> Rays:
    """Atoms of each link, strongest first, scaled as CSI of unit mean power.

    The four random phases of a ray (7.5-22) couple two field components at either end. With one polarisation at the
    receiver the two receive components meet the same array vector, so two atoms remain, one per transmit component;
    with one at the transmitter likewise; with one at both, a single atom. Nothing is lost: the atoms span what the
    antennas see, and their coefficients are independent with zero mean.

    Args:
        mean_power: ``[link]``, mean ``|h|^2`` of the links before they were scaled to one.
    """
    parts = _atoms(ray_response.tabulate(rays, rx, tx, wavelength))
    if rays.los.any():
        los = ray_response.line_of_sight(rays, rx, tx, wavelength)
        parts = [torch.cat(pair, 1) for pair in zip(_line_of_sight_atom(los), parts, strict=True)]
    delay, doppler, power, array, coefficient, cluster = parts
    power, coefficient = power / mean_power[:, None], coefficient / mean_power.sqrt()[:, None]
    weight = power * (array.real.square() + array.imag.square()).mean(-1)
    weight, order = weight.sort(dim=1, descending=True, stable=True)
    rest = weight.flip(1).cumsum(1).flip(1)  # power of an atom and of all weaker ones
    heard = rest > _NEGLIGIBLE * rest[:, :1]
    order = order[:, : max(1, int(heard.sum(1).max()))]
    heard = heard[:, : order.shape[1]]
    return Rays(
        delay=delay.gather(1, order),
        doppler=doppler.gather(1, order) / (2 * math.pi),
        power=power.gather(1, order) * heard,
        array=array.gather(1, order[..., None].expand(-1, -1, array.shape[-1])),
        coefficient=coefficient.gather(1, order) * heard,
        cluster=cluster.gather(1, order),
    )


def _atoms(table: RayTable) -> list[Tensor]:
    """delay, doppler [rad/s], power, array, coefficient, cluster of the atoms of a table, ``[link, atom, ...]``."""
    f, g, c = table.rx_field, table.tx_field, table.coupling
    variance = c.real.square() + c.imag.square()
    single_rx, single_tx = f.shape[-1] == 1, g.shape[-1] == 1
    # Merge field components at an end with one polarisation; coefficient and power: [..., rx component, tx component]
    if single_rx:
        c = (f[..., 0, None] * c).sum(-2, keepdim=True)
        variance = (f[..., 0, None].square() * variance).sum(-2, keepdim=True)
        f = torch.ones_like(f[..., :1, :])
    if single_tx:
        c = (c * g[..., None, :, 0]).sum(-1, keepdim=True)
        variance = (variance * g[..., None, :, 0].square()).sum(-1, keepdim=True)
        g = torch.ones_like(g[..., :1, :])
    pattern = f[..., :, None, :, None] * g[..., None, :, None, :]  # [..., rx comp., tx comp., rx pol, tx pol]
    pattern = torch.complex(pattern, torch.zeros_like(pattern))
    array = ray_response.port_response(
        pattern, table.rx_steering[..., None, None, :], table.tx_steering[..., None, None, :]
    )
    pairs = c.shape[-2] * c.shape[-1]
    per_atom = table.doppler.shape[2] * pairs
    cluster = torch.arange(1, table.delay.shape[1] + 1).expand_as(table.delay)
    return [
        table.delay.repeat_interleave(per_atom, 1),
        table.doppler.flatten(1).repeat_interleave(pairs, 1),
        variance.flatten(1),
        array.flatten(1, 4),
        c.flatten(1),
        cluster.repeat_interleave(per_atom, 1),
    ]


def _line_of_sight_atom(table: RayTable) -> list[Tensor]:
    """The line-of-sight path is one atom: its polarisations share one phase."""
    amplitude = table.coupling[..., 0, 0]  # [link, 1, 1]
    coupling = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=amplitude.dtype).expand_as(table.coupling)
    polarisation = RayTable(**{**vars(table), "coupling": coupling}).polarisation()
    array = ray_response.port_response(polarisation, table.rx_steering, table.tx_steering)
    power = amplitude.real.square() + amplitude.imag.square()
    cluster = torch.zeros_like(table.delay, dtype=torch.long)
    return [table.delay, table.doppler[:, :, 0], power[:, :, 0], array[:, :, 0], amplitude[:, :, 0], cluster]
