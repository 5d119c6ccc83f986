r"""Linear multi-user precoders: closed forms.

Down-link :math:`y_k = h_k x + n_k`, rows not conjugated; ``h [..., user, tx_ant] -> w [..., tx_ant, user]`` with the
power inside: :math:`\sum_k\|w_k\|^2 \le power`. One stream for each user.

Several receive antennas: ``h [..., user, rx_ant, tx_ant]`` with ``rx_axis=True``. Each user is then served along its
dominant receive direction, that is by the channel :math:`u_k^H H_k` (:func:`effective_channel`); a receiver that
combines by MMSE (:func:`airlam.metrics.sinr`) can only do better than this assumes.

``power`` is one value or one per batch entry ``[...]``; ``no`` too, or one per user ``[..., user]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.precoding_steps import (
    check_error_covariance,
    equal_powers,
    prepared,
    pseudo_inverse,
    water_filling,
)
from airlam.csi import resolve_inputs
from airlam.interfaces import check_precoding_request


@resolve_inputs
def mrt(h: Tensor, power: float | Tensor, *, rx_axis: bool = False) -> Tensor:
    r"""Maximum-ratio transmission, equal powers: :math:`w_k = \sqrt{power/K}\, h_k^H/\|h_k\|`.

    Example:
        >>> h = torch.randn(10, 4, 32, dtype=torch.complex64)
        >>> mrt(h, 1.0).abs().square().sum((-2, -1)).allclose(torch.ones(10))
        True
    """
    h, power, _ = prepared(h, power, 1.0, rx_axis)
    return equal_powers(h.mH, power)


@resolve_inputs
def zf(h: Tensor, power: float | Tensor, *, rx_axis: bool = False) -> Tensor:
    """Zero forcing, equal powers: the columns of the pseudo-inverse, normalised.

    Linearly dependent users cannot be separated: they get the pseudo-inverse's least-squares beams, finite and within
    the power, with interference left.

    Raises:
        ValueError: more users than transmit antennas.
    """
    h, power, _ = prepared(h, power, 1.0, rx_axis)
    return equal_powers(pseudo_inverse(h), power)


@resolve_inputs
def zf_water_filling(h: Tensor, power: float | Tensor, no: float | Tensor, *, rx_axis: bool = False) -> Tensor:
    """Zero forcing with the powers that maximise the sum-rate: water-filling over the users' effective gains."""
    h, power, noise = prepared(h, power, no, rx_axis)
    beams = pseudo_inverse(h)
    norm = torch.linalg.vector_norm(beams, dim=-2)
    unit = beams / norm.clamp(min=1e-30).unsqueeze(-2)
    gains = (h @ unit).diagonal(dim1=-2, dim2=-1).abs().square() / noise
    return unit * water_filling(gains, power).sqrt().unsqueeze(-2)


@resolve_inputs
def rzf(
    h: Tensor,
    power: float | Tensor,
    no: float | Tensor,
    *,
    rx_axis: bool = False,
    error_covariance: Tensor | None = None,
) -> Tensor:
    r"""Regularised zero forcing with :math:`\alpha = K\,no/power` and equal powers :math:`\|w_k\|^2 = power/K`.

    Args:
        h: ``complex [..., user, tx_ant]`` (the estimate, if imperfect).
        power, no: see the module's docstring; noise per user enters as its sum.
        rx_axis: ``h`` has a receive-antenna axis.
        error_covariance: covariance of the CSI error of each user, ``E[e_k^H e_k] [..., user, tx_ant, tx_ant]`` for
            the error row ``e_k = h_k - h_hat_k``; interference through it is then avoided too.

    Example:
        >>> h = torch.randn(10, 4, 32, dtype=torch.complex64)
        >>> rzf(h, 1.0, 0.01).shape
        torch.Size([10, 32, 4])
    """
    h, power, noise = prepared(h, power, no, rx_axis)
    alpha = noise.sum(-1) / power
    if error_covariance is None:
        gram = (h @ h.mH).to(torch.complex128)
        eye = torch.eye(h.shape[-2], dtype=gram.dtype, device=h.device)
        inverse = torch.linalg.solve(gram + alpha[..., None, None] * eye, eye.expand_as(gram))
        return equal_powers(h.mH @ inverse.to(h.dtype), power)
    check_error_covariance(error_covariance, h)
    matrix = h.mH @ h + error_covariance.sum(-3)
    eye = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    return equal_powers(torch.linalg.solve(matrix + alpha[..., None, None] * eye, h.mH), power)


@resolve_inputs
def slnr(
    h: Tensor,
    power: float | Tensor,
    no: float | Tensor,
    *,
    rx_axis: bool = False,
    error_covariance: Tensor | None = None,
) -> Tensor:
    r"""Beams that maximise each user's signal-to-leakage-and-noise ratio, equal powers.

    M. Sadek, A. Tarighat, A. H. Sayed, "A leakage-based precoding scheme for downlink multi-user MIMO channels", IEEE
    Trans. Wireless Commun. 2007: :math:`w_k \propto (\sum_{j\ne k} h_j^H h_j + \alpha_k I)^{-1} h_k^H`,
    :math:`\alpha_k = K\,no_k/power`. With the same noise for all users the directions are those of :func:`rzf`.
    """
    h, power, noise = prepared(h, power, no, rx_axis)
    users, antennas = h.shape[-2:]
    alpha = users * noise / power.unsqueeze(-1)  # [..., user]
    if error_covariance is not None:
        check_error_covariance(error_covariance, h)
        leak = h.mH @ h + error_covariance.sum(-3)
        eye = torch.eye(antennas, dtype=h.dtype, device=h.device)
        # adding the user's own h_k^H h_k scales the solution only (matrix inversion lemma)
        beams = torch.linalg.solve(leak.unsqueeze(-3) + alpha[..., None, None] * eye, h.conj().unsqueeze(-1))
        return equal_powers(beams.squeeze(-1).mT, power)
    gram = (h @ h.mH).to(torch.complex128).unsqueeze(-3)
    eye = torch.eye(users, dtype=gram.dtype, device=h.device)
    pick = eye.unsqueeze(-1)  # user k's column of the identity
    columns = torch.linalg.solve(gram + alpha[..., None, None] * eye, pick.expand(*gram.shape[:-3], users, users, 1))
    return equal_powers(h.mH @ columns.squeeze(-1).mT.to(h.dtype), power)


@resolve_inputs
def svd_water_filling(h: Tensor, power: float | Tensor, no: float | Tensor) -> Tensor:
    """One user alone, all streams: right singular vectors with water-filled powers; reaches
    :func:`airlam.baselines.water_filling_capacity`.

    I. E. Telatar, "Capacity of multi-antenna Gaussian channels", Eur. Trans. Telecommun. 1999.

    Args:
        h: ``complex [..., rx_ant, tx_ant]``. power, no: one value or one per batch entry.

    Returns:
        ``w [..., tx_ant, stream]`` with as many streams as ``min(rx_ant, tx_ant)``; those that get no power are zero.

    Example:
        >>> w = svd_water_filling(torch.diag(torch.tensor([1.0, 0.1])).to(torch.complex64), 1.0, 1.0)
        >>> w.abs().square().sum(-2)                     # all power to the strong stream
        tensor([1., 0.])
    """
    check_precoding_request(h, power, no)
    lead = h.shape[:-2]
    total = torch.as_tensor(power, dtype=h.real.dtype, device=h.device).expand(lead)
    noise = torch.as_tensor(no, dtype=h.real.dtype, device=h.device).expand(lead)
    _, values, right = torch.linalg.svd(h, full_matrices=False)
    powers = water_filling(values.square() / noise.unsqueeze(-1), total)
    return right.mH * powers.sqrt().to(h.real.dtype).unsqueeze(-2)


class ClosedForm:
    """A precoder function as a :class:`airlam.interfaces.Precoder`."""

    def __init__(self, *, rx_axis: bool = False):
        self.rx_axis = rx_axis

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rx_axis={self.rx_axis})"


class MRTPrecoder(ClosedForm):
    """:func:`mrt` as a Precoder."""

    name = "mrt"

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        check_precoding_request(h, power, no)  # mrt itself takes no noise
        return mrt(h, power, rx_axis=self.rx_axis)


class ZFPrecoder(ClosedForm):
    """Zero forcing as a Precoder: :func:`zf`, or with ``water_filling`` :func:`zf_water_filling`."""

    def __init__(self, *, water_filling: bool = False, rx_axis: bool = False):
        super().__init__(rx_axis=rx_axis)
        self.water_filling = water_filling
        self.name = "zf-wf" if water_filling else "zf"

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        if self.water_filling:
            return zf_water_filling(h, power, no, rx_axis=self.rx_axis)
        check_precoding_request(h, power, no)  # zf itself takes no noise
        return zf(h, power, rx_axis=self.rx_axis)


class RZFPrecoder(ClosedForm):
    """:func:`rzf` as a Precoder."""

    name = "rzf"

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        return rzf(h, power, no, rx_axis=self.rx_axis, error_covariance=error_covariance)


class SLNRPrecoder(ClosedForm):
    """:func:`slnr` as a Precoder."""

    name = "slnr"

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        return slnr(h, power, no, rx_axis=self.rx_axis, error_covariance=error_covariance)
