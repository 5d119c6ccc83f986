r"""Linear multi-user precoders: closed forms and WMMSE.

Down-link :math:`y_k = h_k x + n_k`, rows not conjugated; ``h [..., user, tx_ant] -> w [..., tx_ant, user]`` with the
power inside: :math:`\sum_k\|w_k\|^2 \le power`. One stream for each user.

Several receive antennas: ``h [..., user, rx_ant, tx_ant]`` with ``rx_axis=True``. Each user is then served along its
dominant receive direction, that is by the channel :math:`u_k^H H_k` (:func:`effective_channel`); a receiver that
combines by MMSE (:func:`airlam.metrics.sinr`) can only do better than this assumes.

``power`` is one value or one per batch entry ``[...]``; ``no`` too, or one per user ``[..., user]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.robust import robust_wmmse
from airlam.csi import PortShape, check_port_shape, dft_line, resolve_inputs
from airlam.interfaces import check_precoding_request
from airlam.metrics.rates import dominant_row, noise_of_users


@resolve_inputs
def effective_channel(h: Tensor) -> Tensor:
    """``[..., user, rx_ant, tx_ant] -> [..., user, tx_ant]``: what a receiver sees along its strongest direction.

    Its norm is the largest singular value of the user's channel.
    """
    return dominant_row(h)


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
def wmmse(
    h: Tensor,
    power: float | Tensor,
    no: float | Tensor,
    *,
    num_iterations: int = 10,
    rx_axis: bool = False,
    error_covariance: Tensor | None = None,
) -> Tensor:
    r"""Weighted-MMSE sum-rate maximisation, started from :func:`rzf`; the sum-rate never falls below it.

    Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, IEEE Trans. Signal Process. 2011, in the K x K form: the optimal beams lie
    in the span of the users' rows, ``W = H^H X``, so that every iteration works on the Gram matrix only; and with
    the noise scaled by the power used (X. Zhao et al., "Rethinking WMMSE: can its complexity scale linearly with the
    number of BS antennas?", 2022) the power constraint is met by a final scaling, without a bisection.

    Args:
        h: ``complex [..., user, tx_ant]``.
        power, no: total transmit power, noise variance.
        num_iterations: fixed, so that the result depends on nothing but this entry. Ten are quick and within a percent
            for few users; with many (12 on 32 antennas) the last 5 to 7 % take a hundred.
        error_covariance: as in :func:`rzf`; then :func:`airlam.baselines.robust.robust_wmmse`, from the robust
            :func:`rzf`.

    Returns:
        ``w [..., tx_ant, user]`` with ``sum_k ||w_k||^2 = power``.
    """
    start = rzf(h, power, no, rx_axis=rx_axis, error_covariance=error_covariance)
    h, power, noise = prepared(h, power, no, rx_axis)
    if error_covariance is not None:
        return robust_wmmse(h, power, noise, error_covariance, start, num_iterations)
    # Rows scaled to unit noise and unit power: log2(1 + SINR) stays the same.
    scale = (power.unsqueeze(-1) / noise).sqrt().unsqueeze(-1)
    scaled = (h * scale).to(torch.complex128)
    users = scaled.shape[-2]
    gram = scaled @ scaled.mH
    eye = torch.eye(users, dtype=gram.dtype, device=h.device)
    # coordinates of the start: W = H^H X, by least squares in the span (regularised for dependent users)
    load = 1e-12 * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None] + 1e-30
    beams = start.to(torch.complex128) / power.sqrt()[..., None, None]
    x = torch.linalg.solve(gram + load * eye, scaled @ beams)
    best, best_rate = None, None
    for iteration in range(num_iterations + 1):
        received = gram @ x  # h_k w_j
        spent = (x.conj() * received).real.sum((-2, -1), keepdim=True)  # sum_k ||w_k||^2
        power_seen = received.abs().square().sum(-1) + spent.squeeze(-1)
        own = received.diagonal(dim1=-2, dim2=-1)
        mse = (1 - own.abs().square() / power_seen.clamp(min=1e-300)).clamp(min=1e-15)
        rate = -torch.log2(mse).sum(-1)
        if best is None:
            best, best_rate = x, rate
        else:  # rounding on ill-conditioned channels must not undo the monotone ascent
            better = rate > best_rate
            best = torch.where(better[..., None, None], x, best)
            best_rate = torch.maximum(rate, best_rate)
        if iteration == num_iterations:
            break
        receiver = own.conj() / power_seen.clamp(min=1e-300)  # u_k^*
        weight = receiver.abs().square() / mse  # |u_k|^2 v_k
        # W = (H^H D H + tr(D) I)^-1 H^H (u v)  =  H^H (D G + tr(D) I)^-1 (u v)
        system = weight.unsqueeze(-1) * gram + weight.sum(-1)[..., None, None] * eye + 1e-300 * eye
        x = torch.linalg.solve(system, torch.diag_embed(receiver.conj() / mse))
    w = scaled.mH @ best
    norm = torch.linalg.matrix_norm(w).clamp(min=1e-300)[..., None, None]
    w = (w / norm * power.sqrt()[..., None, None]).to(h.dtype)
    # a channel of zeros has no direction: keep the start
    usable = torch.isfinite(torch.view_as_real(w)).all(-1).all(-1).all(-1) & (best_rate > 0)
    return torch.where(usable[..., None, None], w, start)


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


def type1_codebook(port_shape: PortShape, *, oversampling: int = 4, device: torch.device | str | None = None) -> Tensor:
    r"""Rank-1 codewords of the Type I single-panel codebook, ``complex64 [tx_ant, codeword]`` of unit norm.

    3GPP TS 38.214, clause 5.2.2.2.1: :math:`\frac{1}{\sqrt{P}}[v_{l,m};\ \varphi_n v_{l,m}]` with DFT beams over
    columns and rows, oversampled, and the co-phasing :math:`\varphi_n = e^{j\pi n/2}` of two polarisations.

    Args:
        port_shape: (polarisations, columns, rows), the order of ``tx_ant``.
        oversampling: of axes with more than one port (the standard's O1, O2).
        device: of the codewords; None: torch's default device.

    Example:
        >>> type1_codebook((2, 4, 1)).shape              # 16 beams, 4 co-phasings
        torch.Size([8, 64])
    """
    polarisations, columns, rows = port_shape

    def line(ports: int) -> Tensor:
        return dft_line(ports, ports * (oversampling if ports > 1 else 1), device)

    beams = torch.kron(line(columns), line(rows))
    if polarisations == 2:
        phase = torch.tensor([1, 1j, -1, -1j], dtype=beams.dtype, device=device)
        beams = torch.cat([torch.kron(beams, torch.ones_like(phase)), torch.kron(beams, phase)])
    return beams / math.sqrt(beams.shape[0])


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


class Type1Precoder:
    """Each user's best codeword of :func:`type1_codebook`, equal powers: what a base station knows from a rank-1 PMI.

    A user whose channel is zero gets no beam, as from every precoder here; its share of the power stays unused.

    Args:
        port_shape: (polarisations, columns, rows) of ``tx_ant``; None: one line of ports.
    """

    name = "type1"

    def __init__(self, *, port_shape: PortShape | None = None, rx_axis: bool = False):
        self.port_shape, self.rx_axis = port_shape, rx_axis

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        h, power, _ = prepared(h, power, no, self.rx_axis)
        shape = check_port_shape(h.shape[-1], self.port_shape)
        codebook = type1_codebook(shape, device=h.device).to(h.dtype)
        gain, best = (h @ codebook).abs().max(-1)  # [..., user]
        return equal_powers(codebook.mT[best].mT * (gain > 0).unsqueeze(-2), power)


class WMMSEPrecoder(ClosedForm):
    """:func:`wmmse` as a Precoder."""

    name = "wmmse"

    def __init__(self, num_iterations: int = 10, *, rx_axis: bool = False):
        super().__init__(rx_axis=rx_axis)
        if num_iterations < 0:
            raise ValueError(f"num_iterations must not be negative, got {num_iterations}")
        self.num_iterations = num_iterations

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        return wmmse(
            h,
            power,
            no,
            num_iterations=self.num_iterations,
            rx_axis=self.rx_axis,
            error_covariance=error_covariance,
        )


# ------------------------------------------------------------------------------------------------- shared steps


def prepared(h: Tensor, power: float | Tensor, no: float | Tensor, rx_axis: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Checked ``h [..., user, tx_ant]``, ``power [...]`` and ``noise [..., user]``, broadcast to the batch."""
    check_precoding_request(h, power, no)
    if rx_axis:
        if h.dim() < 3:
            raise ValueError(f"h has {h.dim()} axes {tuple(h.shape)}, but rx_axis means [..., user, rx_ant, tx_ant]")
        h = effective_channel(h)
    lead, users = h.shape[:-2], h.shape[-2]
    power = torch.as_tensor(power, dtype=h.real.dtype, device=h.device)
    if power.dim() > len(lead):
        raise ValueError(f"power {tuple(power.shape)} must be one value or one per batch entry {tuple(lead)}")
    noise = noise_of_users(no, lead, h)
    return h, power.expand(lead), noise.expand(*lead, users)


def equal_powers(beams: Tensor, power: Tensor) -> Tensor:
    """Columns of ``beams [..., tx_ant, user]`` scaled to ``power / K`` each; a zero column stays zero."""
    largest = beams.abs().amax(-2, keepdim=True)
    beams = beams / torch.where(largest > 0, largest, torch.ones_like(largest))  # no overflow in the norm
    norm = torch.linalg.vector_norm(beams, dim=-2, keepdim=True)
    share = (power / beams.shape[-1]).sqrt()[..., None, None]
    return beams * (share / torch.where(norm > 0, norm, torch.ones_like(norm)))


def pseudo_inverse(h: Tensor) -> Tensor:
    """``H^+ [..., tx_ant, user]`` in double precision; singular values below 1e-7 of the largest count as zero."""
    users, antennas = h.shape[-2:]
    if users > antennas:
        raise ValueError(
            f"zero forcing separates at most {antennas} users with {antennas} transmit antennas, got {users}; "
            "schedule fewer users or use rzf or wmmse"
        )
    wide = h.to(torch.complex128)
    factor, failed = torch.linalg.cholesky_ex(wide @ wide.mH)
    pivots = factor.diagonal(dim1=-2, dim2=-1).real
    # squaring H in the Gram matrix is harmless only while its singular values stay within about 1e-6 of each other
    regular = (failed == 0) & (pivots.amin(-1) > 1e-6 * pivots.amax(-1))
    eye = torch.eye(users, dtype=wide.dtype, device=h.device)
    inverse = wide.mH @ torch.cholesky_solve(eye.expand_as(factor), torch.where(regular[..., None, None], factor, eye))
    if not bool(regular.all()):
        u, s, vh = torch.linalg.svd(wide[~regular], full_matrices=False)
        kept = s > 1e-7 * s[..., :1].clamp(min=1e-300)
        s = torch.where(kept, 1 / s.clamp(min=1e-300), torch.zeros_like(s))
        inverse[~regular] = (vh.mH * s.unsqueeze(-2)) @ u.mH
    return inverse.to(h.dtype)


@resolve_inputs
def water_filling(gains: Tensor, power: Tensor) -> Tensor:
    r"""Powers that maximise :math:`\sum_i\log(1 + g_i p_i)` subject to :math:`\sum_i p_i = power`, exactly.

    Args:
        gains: signal-to-noise ratios per unit power, non-negative ``[..., channel]``.
        power: ``[...]``.

    Returns:
        ``[..., channel]``; where all gains are zero, the power is spread evenly.

    Example:
        >>> water_filling(torch.tensor([1.0, 0.5]), torch.tensor(3.0))
        tensor([2., 1.])
    """
    gains, total = gains.double(), torch.as_tensor(power).double()
    tiny = 1e-150
    floor, order = (1 / gains.clamp(min=tiny)).sort(dim=-1)  # best channel first
    count = torch.arange(1, gains.shape[-1] + 1, device=gains.device, dtype=torch.float64)
    level = (total.unsqueeze(-1) + floor.cumsum(-1)) / count
    active = (level > floor).sum(-1, keepdim=True).clamp(min=1)  # the conditions hold for exactly the first channels
    level = level.gather(-1, active - 1)
    powers = (level - floor).clamp(min=0)
    powers = powers * (total.unsqueeze(-1) / powers.sum(-1, keepdim=True).clamp(min=tiny))
    even = (total / gains.shape[-1]).unsqueeze(-1).expand_as(powers)
    powers = torch.where((gains > tiny).any(-1, keepdim=True), powers, even)
    return torch.zeros_like(powers).scatter(-1, order, powers).to(torch.as_tensor(power).dtype)


def check_error_covariance(error_covariance: Tensor, h: Tensor) -> None:
    """The shape that the robust forms need, finite, and what a covariance has at least: ``1^H C 1`` real, not negative,
    like its diagonal."""
    want = (*h.shape, h.shape[-1])
    if tuple(error_covariance.shape) != want:
        raise ValueError(
            f"error_covariance {tuple(error_covariance.shape)} must be [..., user, tx_ant, tx_ant]: {want}"
        )
    total = error_covariance.sum((-2, -1)).to(h.dtype)
    if not torch.isfinite(torch.view_as_real(total)).all():  # a finite sum proves finite entries
        raise ValueError("error_covariance contains NaN or infinity")
    diagonal = error_covariance.diagonal(dim1=-2, dim2=-1).to(h.dtype)
    slack = 1e-3 * h.shape[-1] * diagonal.abs().sum(-1)  # rounding of single precision, and more
    low = torch.minimum(total.real, diagonal.real.amin(-1))
    odd = torch.maximum(total.imag.abs(), diagonal.imag.abs().amax(-1))
    if bool((low < -slack).any()) or bool((odd > slack).any()):
        raise ValueError(
            "error_covariance must be E[e^H e] of each user, Hermitian and positive semidefinite; it is not: its "
            "diagonal or 1^H C 1 is negative or not real"
        )
