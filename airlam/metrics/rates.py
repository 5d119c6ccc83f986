r"""Spectral efficiency of a precoder on the true channel.

Down-link: :math:`y_k = H_k \sum_j w_j s_j + n_k`, rows of the channel not conjugated, power inside ``w``. Rates are per
resource element; averaging over subcarriers, slots and groups is the caller's, so nothing is averaged by accident.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs
from airlam.metrics.quantile import quantile


@resolve_inputs
def sinr(h: Tensor, w: Tensor, no: float | Tensor) -> Tensor:
    r"""SINR of each user.

    With one receive antenna :math:`|h_k w_k|^2 / (\sum_{j\ne k}|h_k w_j|^2 + no)`. With several the user combines by
    MMSE, which knows its own channel and every beam:
    :math:`a_k^H(\sum_{j\ne k} a_j a_j^H + no\,I)^{-1} a_k` with :math:`a_j = H_k w_j`.

    Args:
        h: true channel ``complex [..., user, tx_ant]``, or ``[..., user, rx_ant, tx_ant]`` (one axis more than ``w``).
        w: precoder ``complex [..., tx_ant, user]``, one stream for each user.
        no: noise variance, linear: one value, one per batch entry ``[...]``, or one per user ``[..., user]``.

    Returns:
        real ``[..., user]``.

    Raises:
        ValueError: shapes that do not fit, or noise that is not positive.

    Example:
        >>> h = torch.eye(2, dtype=torch.complex64)
        >>> sinr(h, h, 0.1)
        tensor([10., 10.])
    """
    extra = h.dim() - w.dim()
    user_axis = -3 if extra == 1 else -2
    if extra not in (0, 1) or h.dim() < 2 or h.shape[-1] != w.shape[-2] or h.shape[user_axis] != w.shape[-1]:
        raise ValueError(
            f"h {tuple(h.shape)} must be [..., user, tx_ant] or [..., user, rx_ant, tx_ant] and w {tuple(w.shape)} "
            "[..., tx_ant, user] with the same leading axes"
        )
    num_users = w.shape[-1]
    lead = torch.broadcast_shapes(h.shape[:user_axis], w.shape[:-2])
    noise = noise_of_users(no, lead, h)
    if extra == 0:
        power = (h @ w).abs().square()  # [..., user, beam]
        signal = power.diagonal(dim1=-2, dim2=-1)
        others = power.masked_fill(torch.eye(num_users, dtype=torch.bool, device=h.device), 0.0).sum(-1)
        return signal / (others + noise)
    seen = h @ w.unsqueeze(-3)  # a: [..., user, rx_ant, beam]
    own = seen.diagonal(dim1=-3, dim2=-1).mT.unsqueeze(-1)  # [..., user, rx_ant, 1]
    mask = 1 - torch.eye(num_users, dtype=seen.real.dtype, device=h.device).unsqueeze(-2)
    others = seen * mask
    eye = torch.eye(h.shape[-2], dtype=h.dtype, device=h.device)
    covariance = others @ others.mH + noise[..., None, None] * eye
    return (own.conj() * torch.linalg.solve(covariance, own)).real.sum((-2, -1)).clamp(min=0.0)


def noise_of_users(no: float | Tensor, lead: torch.Size | tuple[int, ...], h: Tensor) -> Tensor:
    """Noise variance broadcastable against ``[*lead, user]``, from one value, one per entry, or one per user."""
    noise = torch.as_tensor(no, dtype=h.real.dtype)
    if not bool((torch.isfinite(noise) & (noise > 0)).all()):
        raise ValueError(f"no must be positive and finite (linear, not dB), got {noise.flatten()[:3].tolist()}")
    if noise.dim() > len(lead) + 1:
        raise ValueError(f"no {tuple(noise.shape)} must be one value, one per batch entry {tuple(lead)}, or per user")
    noise = noise.to(h.device)
    return noise if noise.dim() in (0, len(lead) + 1) else noise.unsqueeze(-1)


@resolve_inputs
def user_rates(h: Tensor, w: Tensor, no: float | Tensor) -> Tensor:
    """Rate of each user ``log2(1 + SINR_k)`` [bit/s/Hz], ``[..., user]``; arguments as :func:`sinr`."""
    return torch.log1p(sinr(h, w, no)) / torch.log(torch.tensor(2.0))


@resolve_inputs
def sum_rate(h: Tensor, w: Tensor, no: float | Tensor) -> Tensor:
    """Sum of the users' rates [bit/s/Hz] per batch entry ``[...]``, not averaged; arguments as :func:`sinr`.

    Example:
        >>> h = torch.eye(2, dtype=torch.complex64)
        >>> float(sum_rate(h, h, 1 / 3))                      # two users of 2 bit/s/Hz
        4.0
    """
    return user_rates(h, w, no).sum(-1)


UTILITIES = ("sum_rate", "proportional_fair", "max_min")


@resolve_inputs
def utility(rates: Tensor, kind: str = "sum_rate") -> Tensor:
    r"""What a set of users' rates is worth: their mean, their geometric mean, or the smallest of them [bit/s/Hz].

    F. P. Kelly, A. K. Maulloo, D. K. H. Tan, "Rate control for communication networks: shadow prices, proportional
    fairness and stability", J. Oper. Res. Soc. 1998: rates are proportionally fair where :math:`\sum_k\log r_k`, and
    with it the geometric mean, is largest.

    Args:
        rates: ``[..., user]``, not negative.
        kind: ``"sum_rate"`` (the mean: the sum over the number of users), ``"proportional_fair"``, ``"max_min"``.

    Example:
        >>> [round(float(utility(torch.tensor([1.0, 4.0]), kind)), 2) for kind in UTILITIES]
        [2.5, 2.0, 1.0]
    """
    if kind == "sum_rate":
        return rates.mean(-1)
    if kind == "proportional_fair":
        return rates.clamp_min(1e-4).log().mean(-1).exp()
    if kind == "max_min":
        return rates.amin(-1)
    raise ValueError(f"utility is {kind!r}, but must be one of {', '.join(UTILITIES)}")


@resolve_inputs
def single_user_se(h_hat: Tensor, h: Tensor, power: float | Tensor = 1.0, no: float | Tensor = 0.01) -> Tensor:
    r"""Spectral efficiency [bit/s/Hz] of a matched beam computed from ``h_hat`` on the true channel ``h``.

    The beam is the dominant right singular vector of ``h_hat`` (one receive antenna: its conjugate, normalised); the
    receiver knows its channel and combines by maximum ratio: :math:`\log_2(1 + \frac{power}{no}\|H w\|^2)`.

    Args:
        h_hat, h: ``complex [..., rx_ant, tx_ant]``, so CSI of DESIGN's convention fits as it is.
        power, no: transmit power and noise variance, linear, broadcastable against ``[...]``.

    Returns:
        real ``[...]`` (for CSI: ``[..., slot, subcarrier]``). A zero ``h_hat`` sends along the first antenna.

    Example:
        >>> h = torch.ones(1, 4, dtype=torch.complex64)
        >>> round(float(single_user_se(h, h, 1.0, 4 / 15)), 4)
        4.0
    """
    if h_hat.shape != h.shape:
        raise ValueError(f"h_hat {tuple(h_hat.shape)} and h {tuple(h.shape)} must have one shape")
    beam = dominant_row(h_hat).conj().unsqueeze(-1)  # [..., tx_ant, 1]
    norm = torch.linalg.vector_norm(beam, dim=-2, keepdim=True)
    first = torch.zeros_like(beam)
    first[..., 0, :] = 1
    beam = torch.where(norm > 0, beam / norm.clamp(min=1e-30), first)
    gain = (h @ beam).abs().square().sum((-2, -1))
    snr = torch.as_tensor(power) / torch.as_tensor(no) * gain
    return torch.log1p(snr) / torch.log(torch.tensor(2.0))


@resolve_inputs
def dominant_row(h: Tensor) -> Tensor:
    """``u^H H`` with ``u`` the dominant left singular vector of ``h [..., rx_ant, tx_ant]``: ``[..., tx_ant]``.

    The channel that one stream sees when the receiver combines along its strongest direction.
    """
    if h.shape[-2] == 1:
        return h.squeeze(-2)
    vectors = torch.linalg.eigh(h @ h.mH).eigenvectors[..., -1:]  # rx_ant x rx_ant: small
    return (vectors.mH @ h).squeeze(-2)


@resolve_inputs
def five_percent_user_rate(rates: Tensor) -> Tensor:
    """The rate that 95 % of the users exceed: the 5 % quantile over everything given, linearly interpolated.

    Args:
        rates: one (already time- and frequency-averaged) rate per user, any shape.

    Example:
        >>> float(five_percent_user_rate(torch.arange(101.0)))
        5.0
    """
    return quantile(rates.flatten().double(), 0.05)


@resolve_inputs
def hold_after_horizon(h_hat: Tensor, num_slots: int) -> Tensor:
    """Predictions ``[..., slot, subcarrier, rx_ant, tx_ant]`` extended to ``num_slots`` by repeating the last one."""
    missing = num_slots - h_hat.shape[-4]
    if missing <= 0:
        return h_hat[..., :num_slots, :, :, :]
    last = h_hat[..., -1:, :, :, :]
    return torch.cat([h_hat, last.expand(*last.shape[:-4], missing, *last.shape[-3:])], dim=-4)


@resolve_inputs
def latency_charged_se(
    se_per_step: Tensor, latency: Tensor | float, *, slot_duration: float, csi_period: int = 1
) -> Tensor:
    """Spectral efficiency when predictions arrive ``latency`` late (*modelled* from measured SE per horizon step).

    A prediction made from CSI of slot 0 is ready after ``latency``: the first slot it can serve is
    ``ceil(latency / slot_duration)``, at least 1. It then serves ``csi_period`` slots, until the next one is ready.

    Args:
        se_per_step: SE of horizon steps 1, 2, ... ``[..., step]``. Steps after the predictor's horizon must be
            measured with the last predicted slot held (:func:`hold_after_horizon`); asking for more steps than given
            is an error, never a silently optimistic value.
        latency: seconds, one or many ``[n]``.
        slot_duration: seconds.
        csi_period: slots between CSI occasions that start a new prediction.

    Returns:
        ``[..., n]`` (``[...]`` for one latency).

    Example:
        >>> se = torch.tensor([4.0, 3.0, 2.0, 1.0])
        >>> latency_charged_se(se, torch.tensor([0.0, 0.6e-3, 2e-3]), slot_duration=0.5e-3)
        tensor([4., 3., 1.])
    """
    delays = torch.atleast_1d(torch.as_tensor(latency, dtype=torch.float64))
    if bool((delays < 0).any()) or csi_period < 1 or not slot_duration > 0:
        raise ValueError(f"latency must be >= 0, slot_duration > 0, csi_period >= 1; got {latency}, {csi_period}")
    # 1e-6 of a slot: a latency of exactly n slots, rounded in single precision, is n slots
    first = torch.ceil(delays / slot_duration - 1e-6).long().clamp(min=1)
    last = int(first.max()) + csi_period - 1
    if last > se_per_step.shape[-1]:
        raise ValueError(
            f"latency {float(delays.max()):g} s with csi_period {csi_period} needs the SE of horizon step {last}, but "
            f"only {se_per_step.shape[-1]} were given; extend the predictions with hold_after_horizon and measure them"
        )
    steps = first[:, None] - 1 + torch.arange(csi_period, device=first.device)
    charged = se_per_step[..., steps].mean(-1)
    return charged if torch.as_tensor(latency).dim() else charged.squeeze(-1)


@resolve_inputs
def break_even_latency(charged: Tensor, latency: Tensor, reference: float | Tensor) -> Tensor:
    """Largest latency up to which a charged curve ``[n]`` stays at or above ``reference``; ``nan`` if never.

    Args:
        charged: :func:`latency_charged_se` at the rising latencies ``latency [n]``.
        reference: SE of the method to break even with, at *its* own latency.

    Example:
        >>> float(break_even_latency(torch.tensor([4.0, 3.0, 1.0]), torch.tensor([0.0, 1.0, 2.0]), 2.5))
        1.0
    """
    above = charged >= torch.as_tensor(reference)
    count = int(above.long().cumprod(0).sum())
    return latency[count - 1] if count else torch.tensor(float("nan"))
