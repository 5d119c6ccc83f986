"""CSI straight from rays: TR 38.901 clause 7.5, step 11, with every factor kept as a factor.

Stock Sionna materialises a tensor of (cluster x ray x rx antenna x tx antenna x slot), sums it over rays, and then
evaluates an exponential per path, antenna pair and subcarrier. Here a link is

    h[t, f] = sum over groups g of exp(-j 2 pi f delay_g) sum over the rays r of g of exp(j 2 pi doppler_r t) A_r

with ``A_r[rx, tx] = polarisation_r[rx pol, tx pol] steering_r[rx position] steering_r[tx position]``: two batched matrix
products (rays -> slots, then groups -> subcarriers). A group is a cluster, one of the four extra sub-clusters that the
two strongest clusters split into, or the line-of-sight path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.channels.ray_capture import CapturedRays

_SUBCLUSTERS = ((0, 1, 2, 3, 4, 5, 6, 7, 18, 19), (8, 9, 10, 11, 16, 17), (12, 13, 14, 15))  # table 7.5-5
_SUBCLUSTER_DELAYS = (0.0, 1.28, 2.56)  # in units of the cluster delay spread c_DS


def unit_phasor(phase: Tensor) -> Tensor:
    """``exp(j phase)``; polar is about four times faster than a complex exponential."""
    return torch.polar(torch.ones_like(phase), phase)


@dataclass
class Panel:
    """One flat panel as rays see it: unique element positions, polarisations, and how ports use them.

    Attributes:
        elements: Sionna's ``AntennaElement`` per polarisation (1 or 2).
        position: ``[element, 3]`` m in the panel's own coordinates; ports run over polarisations, then positions.
    """

    elements: list
    position: Tensor

    @classmethod
    def of(cls, array) -> Panel:
        """From a Sionna ``PanelArray`` with one panel."""
        if array.polarization == "single":
            return cls([array.ant_pol1], array.ant_pos)
        if not torch.equal(array.ant_pos_pol1, array.ant_pos_pol2):
            raise NotImplementedError("both polarisations must stand at the same positions")
        return cls([array.ant_pol1, array.ant_pol2], array.ant_pos_pol1)


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
        fields = []
        for element in panel.elements:
            f_theta, f_phi = element.field(zenith, azimuth)
            fields.append(torch.stack((cos_psi * f_theta - sin_psi * f_phi, sin_psi * f_theta + cos_psi * f_phi), -1))
        return torch.stack(fields, -1)

    def steering(self, panel: Panel, wavelength: Tensor) -> Tensor:
        """Phasors of the panel's positions ``[link, ray, element]``."""
        return unit_phasor((2 * math.pi / wavelength) * (self.local @ panel.position.T))


@dataclass
class RayGroups:
    """Rays in groups of equal delay, ready to be summed.

    Attributes:
        delay: ``[link, group]`` s.
        doppler: ``[link, group, ray]`` rad/s.
        polarisation: ``complex [link, group, ray, rx_pol, tx_pol]``, amplitude and phase of the ray included.
        rx_steering, tx_steering: ``complex [link, group, ray, element]``.
    """

    delay: Tensor
    doppler: Tensor
    polarisation: Tensor
    rx_steering: Tensor
    tx_steering: Tensor


def group_rays(rays: CapturedRays, rx: Panel, tx: Panel, wavelength: Tensor) -> RayGroups:
    """All rays of each link with their amplitudes, split into sub-clusters, line of sight appended as a last group."""
    num_links, num_clusters, num_rays = rays.aoa.shape
    arrival = Directions(rays.zoa.flatten(1), rays.aoa.flatten(1), rays.rx_orientation)
    departure = Directions(rays.zod.flatten(1), rays.aod.flatten(1), rays.tx_orientation)
    f_rx, f_tx = arrival.field(rx), departure.field(tx)

    # Random phases and cross-polarisation: [[e^j0, e^j1 / sqrt(xpr)], [e^j2 / sqrt(xpr), e^j3]], times the power share
    amplitude = (rays.power / num_rays).sqrt()[..., None].expand_as(rays.aoa)
    k = rays.k_factor[:, None, None]
    diffuse = torch.where(rays.los[:, None, None], (1 / (k + 1)).sqrt(), torch.ones_like(k))
    amplitude = amplitude * diffuse
    cross = amplitude * (1 / rays.xpr).sqrt()
    size = torch.stack((amplitude, cross, cross, amplitude), -1)
    h_phase = torch.polar(size, rays.phase).reshape(num_links, -1, 2, 2)
    polarisation = _couple(f_rx, h_phase, f_tx).unflatten(1, (num_clusters, num_rays))

    doppler = _doppler(arrival.unit, rays.velocity, wavelength).unflatten(1, (num_clusters, num_rays))
    rx_steering = arrival.steering(rx, wavelength).unflatten(1, (num_clusters, num_rays))
    tx_steering = departure.steering(tx, wavelength).unflatten(1, (num_clusters, num_rays))
    delay = rays.delay

    if rays.strongest is not None:
        mask = torch.zeros(3, num_rays)
        for sub, members in enumerate(_SUBCLUSTERS):
            mask[sub, list(members)] = 1.0
        index = rays.strongest.repeat(1, 2)  # [link, 4]: sub-cluster 2 of both, then sub-cluster 3 of both
        link = torch.arange(num_links)[:, None]
        extra = polarisation[link, index] * mask[[1, 1, 2, 2]][None, :, :, None, None]
        polarisation[link, rays.strongest] *= mask[0][None, None, :, None, None]
        polarisation = torch.cat([polarisation, extra], 1)
        doppler = torch.cat([doppler, doppler[link, index]], 1)
        rx_steering = torch.cat([rx_steering, rx_steering[link, index]], 1)
        tx_steering = torch.cat([tx_steering, tx_steering[link, index]], 1)
        offset = torch.tensor(_SUBCLUSTER_DELAYS)[[1, 1, 2, 2]] * rays.cluster_delay_spread[:, None]
        delay = torch.cat([delay, delay.gather(1, index) + offset], 1)

    groups = RayGroups(delay, doppler, polarisation, rx_steering, tx_steering)
    return _with_line_of_sight(groups, rays, rx, tx, wavelength) if bool(rays.los.any()) else groups


def _with_line_of_sight(
    groups: RayGroups, rays: CapturedRays, rx: Panel, tx: Panel, wavelength: Tensor
) -> RayGroups:
    """The line-of-sight path (7.5-29) as one more group whose first ray carries everything; silent for other links."""
    arrival = Directions(rays.los_zoa[:, None], rays.los_aoa[:, None], rays.rx_orientation)
    departure = Directions(rays.los_zod[:, None], rays.los_aod[:, None], rays.tx_orientation)
    k = rays.k_factor
    amplitude = torch.where(rays.los, (k / (k + 1)).sqrt(), torch.zeros_like(k))
    phasor = torch.polar(amplitude, -2 * math.pi * rays.distance / wavelength)  # same order of operations as upstream
    h_phase = torch.stack((phasor, torch.zeros_like(phasor), torch.zeros_like(phasor), -phasor), -1)
    polarisation = _couple(arrival.field(rx), h_phase.reshape(-1, 1, 2, 2), departure.field(tx))
    num_rays = groups.doppler.shape[2]

    def one_ray(x: Tensor) -> Tensor:  # [link, 1, ...] -> [link, group 1, ray, ...], zero but for the first ray
        return torch.nn.functional.pad(x[:, :, None], (0, 0) * (x.dim() - 2) + (0, num_rays - 1))

    doppler = _doppler(arrival.unit, rays.velocity, wavelength)
    return RayGroups(
        torch.cat([groups.delay, rays.delay.amin(1, keepdim=True)], 1),
        torch.cat([groups.doppler, one_ray(doppler)], 1),
        torch.cat([groups.polarisation, one_ray(polarisation)], 1),
        torch.cat([groups.rx_steering, one_ray(arrival.steering(rx, wavelength))], 1),
        torch.cat([groups.tx_steering, one_ray(departure.steering(tx, wavelength))], 1),
    )


def _couple(f_rx: Tensor, h_phase: Tensor, f_tx: Tensor) -> Tensor:
    """``f_rx^T h_phase f_tx`` per ray: ``[link, ray, rx_pol, tx_pol]``."""
    after_tx = h_phase[..., 0, None] * f_tx[..., None, 0, :] + h_phase[..., 1, None] * f_tx[..., None, 1, :]
    return f_rx[..., 0, :, None] * after_tx[..., None, 0, :] + f_rx[..., 1, :, None] * after_tx[..., None, 1, :]


def _doppler(direction: Tensor, velocity: Tensor, wavelength: Tensor) -> Tensor:
    """Angular Doppler frequency [rad/s] per ray; the receiver moves."""
    return (2 * math.pi / wavelength) * (direction * velocity[:, None]).sum(-1)


def frequency_response(groups: RayGroups, slot_times: Tensor, frequencies: Tensor) -> Tensor:
    """Sum the rays.

    Args:
        groups: from :func:`group_rays`.
        slot_times: ``[slot]`` s.
        frequencies: ``[subcarrier]`` Hz, baseband.

    Returns:
        ``complex [link, subcarrier, slot, rx_ant * tx_ant]`` (a view in airlam's order is one permute away).
    """
    num_links, num_groups, num_rays = groups.doppler.shape
    # [link, group, ray, rx_pol, rx position, tx_pol] and then times the tx positions
    port = groups.polarisation[..., :, None, :] * groups.rx_steering[..., None, :, None]
    port = port.flatten(3)[..., None] * groups.tx_steering[..., None, :]
    port = port.flatten(3)  # [link, group, ray, rx_ant * tx_ant]
    time = unit_phasor(groups.doppler[..., None] * slot_times)  # [link, group, ray, slot]
    path = torch.bmm(time.flatten(0, 1).transpose(1, 2), port.flatten(0, 1))  # [link * group, slot, antennas]
    path = path.reshape(num_links, num_groups, -1)
    tone = unit_phasor(-2 * math.pi * frequencies * groups.delay[..., None])  # [link, group, subcarrier]
    h = torch.bmm(tone.transpose(1, 2), path)
    return h.reshape(num_links, len(frequencies), len(slot_times), -1)
