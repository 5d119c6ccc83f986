"""CSI straight from rays: TR 38.901 clause 7.5, step 11, with every factor kept as a factor.

Stock Sionna materialises a tensor of (cluster x ray x rx antenna x tx antenna x slot), sums it over rays, and then
evaluates an exponential per path, antenna pair and subcarrier. Here a link is

    h[t, f] = sum over groups g of exp(-j 2 pi f delay_g) sum over the rays r of g of exp(j doppler_r t) A_r

with ``A_r[rx, tx] = polarisation_r[rx pol, tx pol] steering_r[rx position] steering_r[tx position]``: two batched
matrix products (rays -> slots, then groups -> subcarriers). A group is a cluster, one of the four extra sub-clusters
that the two strongest clusters split into, or the line-of-sight path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from airlam.channels.ray_capture import CapturedRays

SUBCLUSTERS = ((0, 1, 2, 3, 4, 5, 6, 7, 18, 19), (8, 9, 10, 11, 16, 17), (12, 13, 14, 15))  # rays of each, table 7.5-5
SUBCLUSTER_DELAYS = (0.0, 1.28, 2.56)  # in units of the cluster delay spread c_DS


def unit_phasor(phase: Tensor) -> Tensor:
    """``exp(j phase)``; polar is about four times faster than a complex exponential."""
    return torch.polar(torch.ones_like(phase), phase)


def phasor_ramp(phase: Tensor, count: int) -> Tensor:
    """``exp(j phase n)`` for ``n = 0 ... count - 1`` in a new last axis.

    Coarse times fine steps: two square roots of ``count`` sines and cosines in the place of ``count``.
    """
    fine = math.isqrt(max(count - 1, 1)) + 1
    coarse = -(-count // fine)
    large = unit_phasor(phase[..., None] * (fine * torch.arange(coarse, dtype=phase.dtype)))
    small = unit_phasor(phase[..., None] * torch.arange(fine, dtype=phase.dtype))
    return (large[..., :, None] * small[..., None, :]).flatten(-2)[..., :count]


@dataclass
class Panel:
    """One flat panel as rays see it. Ports run over polarisations, then columns, then rows.

    Attributes:
        elements: Sionna's ``AntennaElement`` per polarisation (1 or 2).
        y, z: positions of the columns and of the rows [m], in the panel's own coordinates.
    """

    elements: list
    y: Tensor
    z: Tensor

    @classmethod
    def of(cls, array) -> Panel | None:
        """From a Sionna array; None unless it is one flat grid whose polarisations stand at the same positions."""
        if getattr(array, "num_panels", 0) != 1 or hasattr(array, "element_field"):
            return None
        position, elements = array.ant_pos_pol1, [array.ant_pol1]
        if array.polarization == "dual":
            elements.append(array.ant_pol2)
            if not torch.equal(position, array.ant_pos_pol2):
                return None
        grid = position.unflatten(0, (array.num_cols_per_panel, array.num_rows_per_panel))
        panel = cls(elements, grid[:, 0, 1], grid[0, :, 2])
        same = torch.stack(torch.meshgrid(panel.y, panel.z, indexing="ij"), -1).flatten(0, 1)
        return panel if torch.equal(position[:, 1:], same) and not position[:, 0].any() else None


def rotation(orientation: Tensor) -> Tensor:
    """Rotation matrix ``[..., 3, 3]`` of (bearing, downtilt, slant), local to global coordinates (7.1-4)."""
    (ca, cb, cc), (sa, sb, sc) = (f(orientation).unbind(-1) for f in (torch.cos, torch.sin))
    rows = (
        (ca * cb, ca * sb * sc - sa * cc, ca * sb * cc + sa * sc),
        (sa * cb, sa * sb * sc + ca * cc, sa * sb * cc - ca * sc),
        (-sb, cb * sc, cb * cc),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


class Directions:
    """Directions of rays at one end, in global and in panel coordinates.

    Args:
        zenith, azimuth: ``[link, ray]`` rad.
        orientation: ``[link, 3]`` rad, of the panel.
    """

    def __init__(self, zenith: Tensor, azimuth: Tensor, orientation: Tensor) -> None:
        self.cos_zenith, self.sin_zenith = zenith.cos(), zenith.sin()
        self.azimuth, self.orientation = azimuth, orientation
        unit = (self.sin_zenith * azimuth.cos(), self.sin_zenith * azimuth.sin(), self.cos_zenith)
        self.unit = torch.stack(unit, -1)  # global, [link, ray, 3]
        self.local = self.unit @ rotation(orientation)  # R^T u, rows

    def field(self, panel: Panel) -> Tensor:
        """Field of each polarisation in global components, ``[link, ray, 2 (theta, phi), polarisation]`` (7.1-11)."""
        zenith = self.local[..., 2].clamp(-1.0, 1.0).acos()
        azimuth = torch.atan2(self.local[..., 1], self.local[..., 0])
        (a, b, c) = (x[:, None] for x in self.orientation.unbind(-1))
        cos_rel, sin_rel = (self.azimuth - a).cos(), (self.azimuth - a).sin()
        # cos and sin of the displacement angle psi (7.1-15), without forming the angle
        real = c.sin() * self.cos_zenith * sin_rel
        real = real + c.cos() * (b.cos() * self.sin_zenith - b.sin() * self.cos_zenith * cos_rel)
        imag = c.sin() * cos_rel + b.sin() * c.cos() * sin_rel
        size = torch.hypot(real, imag)
        cos_psi = torch.where(size > 0, real / size, torch.ones_like(size))
        sin_psi = torch.where(size > 0, imag / size, torch.zeros_like(size))
        rotated = []
        for element in panel.elements:
            f_theta, f_phi = element.field(zenith, azimuth)
            rotated.append(torch.stack((cos_psi * f_theta - sin_psi * f_phi, sin_psi * f_theta + cos_psi * f_phi), -1))
        return torch.stack(rotated, -1)

    def steering(self, panel: Panel, wavelength: Tensor) -> Tensor:
        """Phasors of the panel's positions ``[link, ray, position]``, as column times row."""
        local = self.local * (2 * math.pi / wavelength)
        column, row = unit_phasor(local[..., 1, None] * panel.y), unit_phasor(local[..., 2, None] * panel.z)
        return (column[..., :, None] * row[..., None, :]).flatten(-2)


@dataclass
class RayTable:
    """What step 11 needs of every ray, ``[link, group, ray, ...]``.

    Attributes:
        delay: ``[link, group]`` s.
        doppler: rad/s.
        rx_field, tx_field: ``[..., 2 (theta, phi), polarisation]``.
        coupling: ``complex [..., 2 (rx theta, phi), 2 (tx theta, phi)]``: random phases, cross-polarisation, power.
        rx_steering, tx_steering: ``complex [..., position]``.
    """

    delay: Tensor
    doppler: Tensor
    rx_field: Tensor
    tx_field: Tensor
    coupling: Tensor
    rx_steering: Tensor
    tx_steering: Tensor

    def polarisation(self) -> Tensor:
        """``rx_field^T coupling tx_field``: ``complex [link, group, ray, rx_pol, tx_pol]``."""
        # Components in front, rays behind: inner loops over hundreds of rays, not over two components
        f, g, c = (x.movedim((-2, -1), (0, 1)).contiguous() for x in (self.rx_field, self.tx_field, self.coupling))
        after_tx = c[:, 0, None] * g[0] + c[:, 1, None] * g[1]  # [rx theta or phi, tx_pol, link, group, ray]
        out = f[0, :, None] * after_tx[0] + f[1, :, None] * after_tx[1]
        return out.movedim((0, 1), (-2, -1)).contiguous()


def tabulate(rays: CapturedRays, rx: Panel, tx: Panel, wavelength: Tensor) -> RayTable:
    """The rays of all clusters, the two strongest clusters split into their sub-clusters."""
    shape = rays.aoa.shape[1:]
    arrival = Directions(rays.zoa.flatten(1), rays.aoa.flatten(1), rays.rx_orientation)
    departure = Directions(rays.zod.flatten(1), rays.aod.flatten(1), rays.tx_orientation)
    # Random phases and cross-polarisation: [[e^j0, e^j1 / sqrt(xpr)], [e^j2 / sqrt(xpr), e^j3]], times the power share
    k = torch.where(rays.los, rays.k_factor, torch.zeros_like(rays.k_factor))[:, None]
    amplitude = (rays.power / (shape[1] * (k + 1))).sqrt()[..., None].expand_as(rays.aoa)
    cross = amplitude / rays.xpr.sqrt()
    table = RayTable(
        delay=rays.delay,
        doppler=_doppler(arrival.unit, rays.velocity, wavelength).unflatten(1, shape),
        rx_field=arrival.field(rx).unflatten(1, shape),
        tx_field=departure.field(tx).unflatten(1, shape),
        coupling=torch.polar(torch.stack((amplitude, cross, cross, amplitude), -1), rays.phase).unflatten(-1, (2, 2)),
        rx_steering=arrival.steering(rx, wavelength).unflatten(1, shape),
        tx_steering=departure.steering(tx, wavelength).unflatten(1, shape),
    )
    if rays.cluster_delay_spread is not None:
        table = _split_strongest(table, rays.cluster_delay_spread)
    return table if rays.ray_delay_spread is None else _one_by_one(table, rays.ray_delay_spread)


def _split_strongest(table: RayTable, cluster_delay_spread: Tensor) -> RayTable:
    """The two strongest clusters keep sub-cluster 1; four groups in front hold sub-clusters 2 and 3 of each."""
    mask = torch.zeros(3, table.doppler.shape[2])
    for number, members in enumerate(SUBCLUSTERS):
        mask[number, list(members)] = 1.0
    sub, parent = [1, 1, 2, 2], [0, 1, 0, 1]
    split = {f.name: torch.cat([x[:, parent], x], 1) for f in fields(table) for x in [getattr(table, f.name)]}
    split["coupling"][:, :6] *= mask[[*sub, 0, 0]][:, :, None, None]
    split["delay"][:, :4] += torch.tensor(SUBCLUSTER_DELAYS)[sub] * cluster_delay_spread[:, None]
    return RayTable(**split)


def _one_by_one(table: RayTable, ray_delay_spread: Tensor) -> RayTable:
    """Each ray as a group of its own, up to twice the spread later than its cluster (clause 7.6.2.2)."""
    # digits of a random phase that its sine does not show: no further draw, so all else stays as it is
    share = (table.coupling[..., 0, 0].angle() * 997.0 / (2 * math.pi)) % 1.0
    delay = table.delay[..., None] + 2 * ray_delay_spread[:, None, None] * share
    parts = {f.name: getattr(table, f.name) for f in fields(table) if f.name != "delay"}
    return RayTable(delay=delay.flatten(1), **{name: x.flatten(1, 2)[:, :, None] for name, x in parts.items()})


def line_of_sight(rays: CapturedRays, rx: Panel, tx: Panel, wavelength: Tensor) -> RayTable:
    """The line-of-sight path (7.5-29) as one group of one ray, of power K / (K + 1); silent where there is none."""
    arrival = Directions(rays.los_zoa[:, None], rays.los_aoa[:, None], rays.rx_orientation)
    departure = Directions(rays.los_zod[:, None], rays.los_aod[:, None], rays.tx_orientation)
    k = rays.k_factor
    amplitude = torch.where(rays.los, (k / (k + 1)).sqrt(), torch.zeros_like(k))
    # Thousands of turns: the same order of float32 operations as upstream, or the phases would differ
    phasor = torch.polar(amplitude, -2 * math.pi * rays.distance / wavelength)
    coupling = torch.diag_embed(torch.stack((phasor, -phasor), -1))
    return RayTable(
        delay=rays.first_delay[:, None],
        doppler=_doppler(arrival.unit, rays.velocity, wavelength)[:, None],
        rx_field=arrival.field(rx)[:, None],
        tx_field=departure.field(tx)[:, None],
        coupling=coupling[:, None, None],
        rx_steering=arrival.steering(rx, wavelength)[:, None],
        tx_steering=departure.steering(tx, wavelength)[:, None],
    )


def prepend(table: RayTable, other: RayTable) -> RayTable:
    """``table`` with the groups of ``other`` in front, these padded by silent rays."""
    missing = table.doppler.shape[2] - other.doppler.shape[2]

    def padded(x: Tensor) -> Tensor:
        return x if x.dim() == 2 else torch.cat([x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)

    both = {f.name: (getattr(other, f.name), getattr(table, f.name)) for f in fields(table)}
    return RayTable(**{name: torch.cat([padded(a), b], 1) for name, (a, b) in both.items()})


def _doppler(direction: Tensor, velocity: Tensor, wavelength: Tensor) -> Tensor:
    """Angular Doppler frequency [rad/s] per ray; the receiver moves."""
    return (2 * math.pi / wavelength) * (direction * velocity[:, None]).sum(-1)


def port_response(polarisation: Tensor, rx_steering: Tensor, tx_steering: Tensor) -> Tensor:
    """``[..., rx_pol, tx_pol]``, ``[..., rx position]``, ``[..., tx position]`` -> ``[..., rx_ant * tx_ant]``."""
    after_rx = polarisation[..., :, None, :] * rx_steering[..., None, :, None]  # [..., rx_pol, rx position, tx_pol]
    return (after_rx[..., None] * tx_steering[..., None, None, None, :]).flatten(-4)


def sum_rays(delay: Tensor, doppler: Tensor, port: Tensor, grid: tuple[int, float, int, float]) -> Tensor:
    """Sum rays over a grid of slots and subcarriers.

    Args:
        delay: ``[link, group]`` s.
        doppler: ``[link, group, ray]`` rad/s.
        port: ``complex [link, group, ray, antenna pair]``.
        grid: number of slots, slot duration [s], number of subcarriers, subcarrier spacing [Hz].

    Returns:
        ``complex [link, subcarrier, slot, antenna pair]``.
    """
    num_slots, slot_duration, num_subcarriers, spacing = grid
    time = phasor_ramp(doppler * slot_duration, num_slots)  # [link, group, ray, slot]
    path = torch.bmm(time.flatten(0, 1).mT, port.flatten(0, 1))  # [link * group, slot, antenna pair]
    # Tens of turns at long delays: the same order of float32 operations as upstream's, or the phases would differ
    frequency = torch.arange(-(num_subcarriers // 2), (num_subcarriers + 1) // 2, dtype=delay.dtype) * spacing
    tone = unit_phasor(-2 * math.pi * frequency * delay[..., None])  # [link, group, subcarrier]
    h = torch.bmm(tone.mT, path.reshape(*delay.shape, -1))
    return h.reshape(len(h), num_subcarriers, num_slots, -1)
