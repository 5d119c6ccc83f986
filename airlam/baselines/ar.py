"""Sparse autoregressive prediction in the beam-delay domain, with per-bin shrinkage: the baseline of every table.

One AR filter ``w`` for the link, fitted by least squares pooled over its strongest beam-delay bins; each bin ``b`` then
has a filter of its own, which deviates from ``w`` as far as the bin's data support it::

    w_b = w + (D_b^H D_b + kappa R / K)^-1 D_b^H (t_b - D_b w)

``D_b`` holds the bin's past slots (one row per equation), ``t_b`` the slots that followed, ``R = sum_b D_b^H D_b``
the pooled Gram matrix and ``K`` the number of bins: a ridge towards the pooled filter in the metric of the data, that
is the posterior mean of ``w_b`` under a Gaussian prior around ``w``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.bins import TINY, bin_peak, bin_series, csi_of, put, strongest, take
from airlam.baselines.mean import check_mean_share
from airlam.csi import PortShape, resolve_inputs
from airlam.interfaces import any_scale, check_prediction_request


class ARFilters(NamedTuple):
    """One-step filters ``x[t] = sum_j weights[j] x[t - order + j]``: the *last* weight takes the newest slot.

    Attributes:
        pooled: ``complex [..., order]``, the link's common filter (zero where shrinkage is 0).
        weights: ``complex [..., bin, order]``, each bin's own.
    """

    pooled: Tensor
    weights: Tensor


def effective_order(order: int, num_slots: int) -> int:
    """The order that a history of ``num_slots`` supports: at most three quarters of it, at least 1.

    One quarter of the slots is left as equations for the fit; 16 slots carry order 12.
    """
    return min(order, max(1, (3 * num_slots) // 4))


@resolve_inputs
def ar_filters(series: Tensor, order: int = 12, ridge: float = 1e-4, shrinkage: float = 3.0) -> ARFilters:
    """Pooled and per-bin one-step AR filters of each link.

    The per-bin systems are solved in whichever form is smaller: ``order x order``, or (matrix inversion lemma)
    ``equations x equations``: 4 x 4 for 16 slots and order 12.

    Args:
        series: ``complex [..., bin, slot]``, oldest slot first; bins of one link are pooled, leading axes are links.
        order: filter length, lowered by :func:`effective_order`.
        ridge: loading relative to the mean diagonal of the Gram matrix.
        shrinkage: kappa above; 0: each bin alone (no pooled filter), ``inf``: the pooled filter for every bin.

    Returns:
        :class:`ARFilters`, dtype of ``series``. A single slot gives the hold filter.

    Example:
        >>> t = torch.arange(8.0)
        >>> x = torch.polar(torch.ones(8), 0.3 * t)[None]             # one bin, one exponential
        >>> round(float(ar_filters(x, order=1, ridge=0.0, shrinkage=math.inf).pooled.angle()), 4)
        0.3
    """
    num_slots = series.shape[-1]
    order = effective_order(order, num_slots)
    if num_slots == 1:
        return ARFilters(torch.ones_like(series[..., 0, :]), torch.ones_like(series))
    # Each link at unit mean power: ridge and TINY then mean the same for every link.
    power = (series.real.square() + series.imag.square()).mean((-2, -1), keepdim=True)
    series = series / torch.where(power > 0, power, torch.ones_like(power)).sqrt()
    rows = series.unfold(-1, order, 1)[..., :-1, :]  # D: [..., bin, equation, order], ascending in time
    targets = series[..., order:].unsqueeze(-1)  # t: [..., bin, equation, 1]
    if shrinkage == 0:
        return ARFilters(torch.zeros_like(rows[..., 0, 0, :]), alone(rows, targets, ridge))

    num_bins = series.shape[-2]
    flat = rows.flatten(-3, -2)  # all equations of the link
    gram = (flat.mH @ flat).to(torch.complex128)  # one small system per link: double costs nothing
    load = ridge * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1) + TINY
    gram = gram + load[..., None, None] * torch.eye(order, dtype=gram.dtype, device=gram.device)
    right = (flat.mH @ targets.flatten(-3, -2)).to(torch.complex128)
    factor, failed = torch.linalg.cholesky_ex(gram)  # fails only where ridge = 0 meets a rank-deficient history
    if bool(failed.any()):
        extra = (1e-10 * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1))[..., None, None]
        factor = torch.linalg.cholesky(gram + extra * torch.eye(order, dtype=gram.dtype, device=gram.device))
    pooled = torch.cholesky_solve(right, factor).squeeze(-1).to(series.dtype)
    if math.isinf(shrinkage):
        return ARFilters(pooled, pooled.unsqueeze(-2).expand(*series.shape[:-1], order))

    error = targets.squeeze(-1) - (rows @ pooled[..., None, :, None]).squeeze(-1)  # [..., bin, equation]
    # Whiten by the prior kappa R / K = (s L)(s L)^H: the update becomes L^-H G^H (I + G G^H)^-1 e / s, G = D L^-H / s.
    whitener = torch.linalg.solve_triangular(
        factor.mH, torch.eye(order, dtype=factor.dtype, device=factor.device), upper=True
    )
    whitener = (whitener * math.sqrt(num_bins / shrinkage)).to(series.dtype)
    white = (flat @ whitener).unflatten(-2, rows.shape[-3:-1])
    update = whitened_ridge(white, error.unsqueeze(-1))
    weights = pooled.unsqueeze(-2) + update.squeeze(-1) @ whitener.mT
    return ARFilters(pooled, weights)


def whitened_ridge(rows: Tensor, targets: Tensor) -> Tensor:
    """``(G^H G + I)^-1 G^H e`` for a batch of small ``G [..., equation, order]``, in the smaller of its two forms."""
    num_equations, order = rows.shape[-2:]
    eye = torch.eye(min(num_equations, order), dtype=rows.dtype, device=rows.device)
    if num_equations <= order:
        factor = torch.linalg.cholesky(rows @ rows.mH + eye)
        return rows.mH @ torch.cholesky_solve(targets, factor)
    factor = torch.linalg.cholesky(rows.mH @ rows + eye)
    return torch.cholesky_solve(rows.mH @ targets, factor)


def alone(rows: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Each bin's own ridge least squares, loading relative to the bin's own power: ``[..., bin, order]``."""
    power = (rows.real.square() + rows.imag.square()).mean((-2, -1), keepdim=True) * rows.shape[-2]
    # single precision cannot resolve less than 1e-6 of the diagonal
    load = (max(ridge, 1e-6 if rows.dtype == torch.complex64 else 1e-12) * power + TINY).sqrt()
    return (whitened_ridge(rows / load, targets) / load).squeeze(-1)


@resolve_inputs
def rollout(series: Tensor, weights: Tensor, num_future: int, limit: float | None = None) -> Tensor:
    """Predict ``num_future`` slots by feeding each prediction back.

    Args:
        series: ``complex [..., bin, slot]``.
        weights: ``complex [..., bin, order]`` (broadcast over bins if ``[..., 1, order]``), newest slot last.
        num_future: slots to predict.
        limit: bound on each predicted amplitude, relative to the largest amplitude of that bin's history. What is fed
            back is bounded too, so no filter, stable or not, can make the output grow. ``None``: linear.

    Returns:
        ``complex [..., bin, num_future]``.

    Example:
        >>> rollout(torch.ones(1, 4, dtype=torch.complex64), torch.full((1, 1), 2.0 + 0j), 2).real
        tensor([[2., 4.]])
    """
    order = weights.shape[-1]
    window = series[..., -order:]
    most = None if limit is None else limit * bin_peak(series)
    future = []
    for _ in range(num_future):
        value = (weights * window).sum(-1)
        if most is not None:
            value = value * (most / value.abs().clamp(min=1e-30)).clamp(max=1.0)
        future.append(value)
        window = torch.cat([window[..., 1:], value.unsqueeze(-1)], dim=-1)
    return torch.stack(future, dim=-1)


class ARPredictor:
    """Sparse AR with per-bin shrinkage (see the module's docstring), the baseline of every table.

    All receive antennas' bins are pooled. Bins outside the strongest ``num_bins`` are predicted as ``tail`` says.

    Stability: predicted amplitudes are bounded by ``limit`` times the largest amplitude that the bin had in its
    history (:func:`rollout`), so predictions of growing energy cannot occur at any horizon; a pole search for
    each bin would cost more than the whole predictor.

    Args:
        order: filter length; lowered for short histories.
        ridge: loading of the pooled fit.
        num_bins: strongest bins that are fitted; ``None``: all.
        shrinkage: kappa; 0: each bin alone, ``inf``: one pooled filter.
        tail: the bins outside: ``"pooled"`` filter, ``"zero"`` or ``"hold"``.
        limit: amplitude bound, see above.
        mean_share: share of the history's mean that is set aside: the filters are fitted to ``h - mean_share * mean``,
            predict that, and the share is added again. At 1 the more ``ridge`` shrinks the filters to zero, the nearer
            the prediction comes to the mean, in bins outside ``num_bins`` too; at 0 the mean plays no part.

    Example:
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> ARPredictor().predict(h_past, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    def __init__(
        self,
        order: int = 12,
        ridge: float = 1e-4,
        num_bins: int | None = 512,
        shrinkage: float = 3.0,
        *,
        tail: str = "zero",
        limit: float = 1.5,
        mean_share: float = 0.0,
    ):
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        if ridge < 0 or shrinkage < 0:
            raise ValueError(f"ridge and shrinkage must not be negative, got {ridge} and {shrinkage}")
        if num_bins is not None and num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, or None for all, got {num_bins}")
        if tail not in ("zero", "pooled", "hold"):
            raise ValueError(f"tail must be 'zero', 'pooled' or 'hold', got {tail!r}")
        self.order, self.ridge, self.num_bins, self.shrinkage = order, ridge, num_bins, shrinkage
        self.tail, self.limit, self.mean_share = tail, limit, check_mean_share(mean_share)
        self.name = "ar"

    @resolve_inputs
    def filters(self, h_past: Tensor, *, port_shape: PortShape | None = None) -> tuple[Tensor, Tensor, ARFilters]:
        """Bins, their series and their filters, for predictors that start from this one.

        Returns:
            ``bins [..., K]`` (indices into the flattened delay x rx_ant x beam axes, strongest first), ``series
            [..., K, slot]`` of those bins, and their :class:`ARFilters`.
        """
        series = bin_series(h_past, port_shape)
        bins = strongest(series, self.num_bins)
        kept = take(series, bins)
        return bins, kept, ar_filters(kept, self.order, self.ridge, self.shrinkage)

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        shape = check_prediction_request(h_past, num_future, port_shape)
        if self.mean_share == 0:
            return self._predict(h_past, num_future, shape)
        mean = self.mean_share * h_past.mean(-4, keepdim=True)
        return mean + self._predict(h_past - mean, num_future, shape)

    def _predict(self, h_past: Tensor, num_future: int, shape: PortShape) -> Tensor:
        series = bin_series(h_past, shape)
        if self.num_bins is None or self.num_bins >= series.shape[-2]:
            found = ar_filters(series, self.order, self.ridge, self.shrinkage)
            return csi_of(rollout(series, found.weights, num_future, self.limit), h_past.shape[-3:], shape)
        bins = strongest(series, self.num_bins)
        kept = take(series, bins)
        found = ar_filters(kept, self.order, self.ridge, self.shrinkage)
        if self.tail == "zero":
            rest = series.new_zeros(*series.shape[:-1], num_future)
        elif self.tail == "hold":
            rest = series[..., -1:].expand(*series.shape[:-1], num_future)
        else:
            rest = rollout(series, found.pooled.unsqueeze(-2), num_future, self.limit)
        future = put(rollout(kept, found.weights, num_future, self.limit), bins, rest)
        return csi_of(future, h_past.shape[-3:], shape)
