"""Denoising of measured CSI before it is precoded with: what a base station does at low SNR without a network."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape, from_beam_delay, resolve_inputs, to_beam_delay
from airlam.interfaces import check_csi


class BeamDelayThreshold:
    """Keep the beam-delay bins that rise above the noise; the others become zero.

    Args:
        factor: threshold in units of the noise variance; to be tuned.

    Example:
        >>> BeamDelayThreshold(4.0).denoise(torch.ones(1, 1, 8, 1, 4, dtype=torch.complex64), 0.1).shape
        torch.Size([1, 1, 8, 1, 4])
    """

    name = "threshold"

    def __init__(self, factor: float = 4.0):
        if not factor >= 0:
            raise ValueError(f"factor must not be negative, got {factor}")
        self.factor = factor

    @resolve_inputs
    def denoise(self, h: Tensor, noise: float | Tensor, port_shape: PortShape | None = None) -> Tensor:
        """``h complex [..., slot, subcarrier, rx_ant, tx_ant]`` without the bins that ``noise`` explains (its variance,
        one value or ``[...]``)."""
        check_csi(h, name="h")
        bins = to_beam_delay(h, port_shape)
        level = self.factor * torch.as_tensor(noise, dtype=h.real.dtype, device=h.device)
        level = level[..., None, None, None, None]
        return from_beam_delay(torch.where(bins.abs().square() > level, bins, torch.zeros_like(bins)), port_shape)


class TrainingLMMSE:
    r"""Linear MMSE estimate from the covariance of a training set, Kronecker of subcarriers and antennas.

    With :math:`R_f = U\Lambda U^H` and :math:`R_a = V M V^H` each coefficient of :math:`U^H H V^*` is scaled by
    :math:`\lambda\mu / (\lambda\mu + \sigma^2)`. The covariance is that of a cell, not of a user: users stand anywhere.

    Args:
        frequency: ``complex [subcarrier, subcarrier]``, for example :func:`airlam.baselines.axis_covariance`.
        antenna: ``complex [tx_ant, tx_ant]``, ``E[h^T h^*]`` of the row ``h``, mean of the diagonal 1 (both).
    """

    name = "lmmse"

    @resolve_inputs
    def __init__(self, frequency: Tensor, antenna: Tensor):
        self.delay_power, self.delay = torch.linalg.eigh(frequency.to(torch.complex128))
        self.beam_power, self.beam = torch.linalg.eigh(antenna.to(torch.complex128))

    @classmethod
    @resolve_inputs
    def of(cls, h: Tensor) -> TrainingLMMSE:
        """From true CSI of a training set ``[link, slot, subcarrier, rx_ant, tx_ant]``, links of equal weight."""
        x = check_csi(h, name="h").to(torch.complex128)
        x = x / x.abs().square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp_min(1e-30)
        frequency = torch.einsum("ltfra,ltgra->fg", x, x.conj())
        antenna = torch.einsum("ltfra,ltfrb->ab", x, x.conj())
        return cls(frequency / frequency.diagonal().real.mean(), antenna / antenna.diagonal().real.mean())

    @property
    def antenna(self) -> Tensor:
        """``complex128 [tx_ant, tx_ant]``, the covariance of the antennas; what is not positive is dropped."""
        return (self.beam * self.beam_power.clamp_min(0)) @ self.beam.mH

    @property
    def frequency(self) -> Tensor:
        """``complex128 [subcarrier, subcarrier]``, the covariance of the subcarriers, likewise."""
        return (self.delay * self.delay_power.clamp_min(0)) @ self.delay.mH

    @resolve_inputs
    def denoise(self, h: Tensor, noise: float | Tensor, port_shape: PortShape | None = None) -> Tensor:
        """See :meth:`BeamDelayThreshold.denoise`; links of unit mean power."""
        gain, _ = self._gain(noise)
        x = torch.einsum("fd,...tfra->...tdra", self.delay.conj(), h.to(torch.complex128)) @ self.beam.conj()
        return (torch.einsum("fd,...tdra->...tfra", self.delay, gain * x) @ self.beam.mT).to(h.dtype)

    @resolve_inputs
    def from_pilots(self, y: Tensor, combiner: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """The estimate from ``y = h combiner^T + n``, fewer pilots than antennas included.

        Args:
            y: ``complex [..., subcarrier, pilot]``, links of unit mean power. combiner: ``[pilot, tx_ant]``.

        Returns:
            ``h [..., subcarrier, tx_ant]``, and of the rows of its errors ``E[e^H e] [subcarrier, tx_ant, tx_ant]``.
        """
        antenna = self.antenna
        wide = combiner.to(torch.complex128)
        power = self.delay_power.clamp_min(0)[:, None, None]
        cross = power * (antenna @ wide.mH)  # of each delay mode: E[h y^H]
        eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
        weights = torch.linalg.solve(wide @ cross + noise * eye, cross.mH).mH  # [mode, tx_ant, pilot]
        modes = self.delay.conj().mT @ y.to(torch.complex128)
        h = self.delay @ torch.einsum("dap,...dp->...da", weights, modes)
        error = power * antenna - weights @ cross.mH
        by_tone = torch.einsum("fd,dab->fab", self.delay.abs().square().to(error.dtype), error)
        return h.to(y.dtype), by_tone.conj()

    def covariance(self, noise: float | Tensor) -> Tensor:
        """``E[e^H e]`` of the rows of errors, ``[..., 1, subcarrier, 1, tx_ant, tx_ant]``."""
        _, error = self._gain(noise)  # [..., 1, delay, 1, beam]
        by_tone = torch.einsum("fd,...dra->...fra", self.delay.abs().square(), error).to(self.beam.dtype)
        return torch.einsum("ab,...b,cb->...ac", self.beam.conj(), by_tone, self.beam)

    def _gain(self, noise: float | Tensor) -> tuple[Tensor, Tensor]:
        power = self.delay_power.clamp_min(0)[:, None, None] * self.beam_power.clamp_min(0)
        sigma = torch.as_tensor(noise, dtype=torch.float64, device=power.device)[..., None, None, None, None]
        gain = power / (power + sigma)
        return gain, gain * sigma
