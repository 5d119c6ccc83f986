"""AR prediction in the link's own eigenbasis.

A DFT spreads a ray with off-grid delay or angle over many beam-delay bins. The eigenvectors of the link's own
frequency and port covariances (a separable Karhunen-Loeve transform, estimated from the history's slots) gather the
same energy in far fewer coefficients, each with a better signal-to-noise ratio. Each coefficient is a time series;
series of similar energy share one AR filter, from which each deviates as far as its own data support it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.mean import check_mean_share
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request


class Eigenbasis(NamedTuple):
    """A link's unitary basis over subcarriers and, per polarisation, over the ports of the panel.

    Attributes:
        frequency: ``[link, subcarrier, mode]``.
        port: ``[link, polarisation, port, mode]``, ``port`` within one polarisation.

    Modes run from the weakest to the strongest.
    """

    frequency: Tensor
    port: Tensor

    @classmethod
    def of(
        cls, h: Tensor, polarisations: int, observed: Tensor | None = None, *, forward_backward: bool = False
    ) -> Eigenbasis:
        """Basis of the histories ``h [link, slot, subcarrier, rx_ant, tx_ant]``.

        Args:
            polarisations: the first factor of the port shape.
            observed: ``bool [link, slot]``; slots that are not observed do not count.
            forward_backward: whether covariances are averaged with themselves, reversed and conjugated. Plane waves on
                a uniform panel and equally spaced subcarriers look the same from both ends, so this doubles the
                snapshots; not for arrays with errors or in an unknown order.
        """
        if observed is not None:
            h = h * observed[:, :, None, None, None]
        links, _, subcarriers, _, ports = h.shape
        by_tone = h.transpose(1, 2).reshape(links, subcarriers, -1)
        by_port = (
            h.unflatten(-1, (polarisations, -1))
            .movedim((-2, -1), (1, 2))
            .reshape(links, polarisations, ports // polarisations, -1)
        )
        covariances = [by_tone @ by_tone.mH, by_port @ by_port.mH]
        if forward_backward:
            covariances = [r + r.flip(-2, -1).conj() for r in covariances]
        return cls(*(torch.linalg.eigh(r).eigenvectors for r in covariances))

    def forward(self, h: Tensor) -> Tensor:
        """``[link, slot, subcarrier, rx_ant, tx_ant]`` -> series ``[link, bin, slot]``, ``bin`` = (mode of frequency,
        rx_ant, polarisation, mode of port)."""
        h = h.unflatten(-1, self.port.shape[1:3])
        x = torch.einsum("lfm,ltfrpa->ltmrpa", self.frequency.conj(), h)
        x = torch.einsum("ltmrpa,lpan->lmrpnt", x, self.port.conj())
        return x.flatten(1, 4)

    def inverse(self, series: Tensor, num_rx_ant: int) -> Tensor:
        """Series ``[link, bin, slot]`` -> ``[link, slot, subcarrier, rx_ant, tx_ant]``."""
        polarisations, ports = self.port.shape[1:3]
        x = series.unflatten(1, (-1, num_rx_ant, polarisations, ports))
        x = torch.einsum("lmrpnt,lpan->ltmrpa", x, self.port)
        return torch.einsum("lfm,ltmrpa->ltfrpa", self.frequency, x).flatten(-2)

    def inverse_power(self, variance: Tensor, num_rx_ant: int) -> Tensor:
        """Variances of uncorrelated coefficients ``[link, bin, slot]``, real -> of the entries of CSI, as
        :meth:`inverse`."""
        squares = Eigenbasis(*(x.real.square() + x.imag.square() for x in self))
        return squares.inverse(variance, num_rx_ant)

    def inverse_covariance(self, variance: Tensor, num_rx_ant: int) -> Tensor:
        """As :meth:`inverse_power`, with the covariances between ports: ``E[conj(e_a) e_b]`` of the row ``e`` of an
        entry's errors over ports, ``[link, slot, subcarrier, rx_ant, tx_ant, tx_ant]``; its diagonal is that of
        :meth:`inverse_power`. Polarisations are uncorrelated, as their coefficients are."""
        polarisations, ports = self.port.shape[1:3]
        x = variance.unflatten(1, (-1, num_rx_ant, polarisations, ports))
        by_tone = torch.einsum("lfm,lmrpnt->ltfrpn", self.frequency.abs().square(), x).to(self.port.dtype)
        blocks = torch.einsum("lpan,ltfrpn,lpbn->ltfrpab", self.port.conj(), by_tone, self.port)
        return block_diagonal(blocks)


def block_diagonal(blocks: Tensor) -> Tensor:
    """``[..., polarisation, port, port]`` -> ``[..., polarisation * port, polarisation * port]``, zero between
    polarisations."""
    *lead, polarisations, ports, _ = blocks.shape
    out = blocks.new_zeros(*lead, polarisations, ports, polarisations, ports)
    for p in range(polarisations):
        out[..., p, :, p, :] = blocks[..., p, :, :]
    return out.flatten(-4, -3).flatten(-2)


def strongest(series: Tensor, num_bins: int) -> tuple[Tensor, Tensor]:
    """The ``num_bins`` bins of most energy, in falling order: ``(series [link, num_bins, slot], index)``."""
    energy = (series.real.square() + series.imag.square()).sum(-1)
    index = energy.topk(min(num_bins, series.shape[1]), dim=-1).indices
    return series.gather(1, index[..., None].expand(-1, -1, series.shape[-1])), index


def place(series: Tensor, index: Tensor, num_bins: int) -> Tensor:
    """Inverse of :func:`strongest`: all other bins are zero."""
    out = series.new_zeros(series.shape[0], num_bins, series.shape[-1])
    return out.scatter(1, index[..., None].expand_as(series), series)


def class_ar(
    series: Tensor, num_future: int, *, order: int, ridge: float, num_classes: int, shrinkage: float
) -> Tensor:
    """Predict series sorted by energy: :func:`class_filters`, then :func:`roll_out`.

    Args:
        series: ``complex [link, bin, slot]``, strongest first.

    Returns:
        ``complex [link, bin, num_future]``.
    """
    taps = class_filters(series, order=order, ridge=ridge, num_classes=num_classes, shrinkage=shrinkage)
    return roll_out(series, taps, num_future)


def class_filters(series: Tensor, *, order: int, ridge: float, num_classes: int, shrinkage: float) -> Tensor:
    """One AR filter per energy class, from which each series' own deviates.

    The classes are runs of equally many series. With ``D_b`` the lagged samples of series ``b``, ``t_b`` the samples
    to predict and ``A = shrinkage * (mean Gram matrix of the class + ridge)``, each series' filter is
    ``w + (D_b^H D_b + A)^-1 D_b^H (t_b - D_b w)``, evaluated by the matrix inversion lemma because a short history
    gives far fewer equations than taps.

    Args:
        series: ``complex [link, bin, slot]``, strongest first.

    Returns:
        taps ``complex [link, bin, order]``, oldest sample first; zero for the few series that fill no class.
    """
    links, bins, slots = series.shape
    if slots < 2:
        return torch.ones_like(series[..., :1])
    order = min(order, max(1, 3 * slots // 4))
    classes = max(1, min(num_classes, bins // 32))
    kept = bins // classes * classes
    x = series[:, :kept].reshape(links * classes, kept // classes, slots)
    window = x.unfold(-1, order + 1, 1)
    lagged, target = window[..., :order], window[..., order:]  # [class, bin, equation, tap], [..., 1]
    flat = lagged.flatten(1, 2)
    gram = flat.mH @ flat
    power = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    eye = torch.eye(order, dtype=gram.dtype, device=gram.device)
    # never less loading than rounding needs: noise-free histories have singular Gram matrices
    finfo = torch.finfo(power.dtype)
    largest = gram.diagonal(dim1=-2, dim2=-1).real.amax(-1)
    loading = torch.maximum(ridge * power, 8 * order * finfo.eps * largest) + finfo.tiny**0.5
    gram = gram + loading[:, None, None] * eye
    factor = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(flat.mH @ target.flatten(1, 2), factor)  # [class, tap, 1]
    if shrinkage != float("inf"):
        size, equations = lagged.shape[1:3]
        residual = target - lagged @ weights[:, None]
        # A^-1 D_b^H for all bins of the class at once. One product with the small inverse takes a sixth of the time of
        # a solve with hundreds of right-hand sides; the loading keeps the condition number where that costs nothing.
        spread = torch.cholesky_inverse(factor) @ flat.mH * (size / max(shrinkage, 1e-6))
        spread = spread.unflatten(-1, (size, equations)).transpose(1, 2)  # [class, bin, tap, equation]
        inner = lagged @ spread + torch.eye(equations, dtype=gram.dtype, device=gram.device)
        weights = weights[:, None] + spread @ torch.linalg.solve(inner, residual)
    else:
        weights = weights[:, None].expand(-1, x.shape[1], -1, -1)
    taps = weights[..., 0].reshape(links, kept, order)
    return torch.nn.functional.pad(taps, (0, 0, 0, bins - kept))


def roll_out(series: Tensor, taps: Tensor, num_future: int) -> Tensor:
    """Predict ``series [link, bin, slot]`` sample by sample with AR filters ``taps [link, bin, order]``.

    A predicted sample never exceeds 1.5 times the series' largest past magnitude, which bounds an unstable filter.
    """
    order = taps.shape[-1]
    limit = 1.5 * series.abs().amax(-1)
    tiny = torch.finfo(limit.dtype).tiny
    recent = list(series[..., series.shape[-1] - order :].unbind(-1))
    for _ in range(num_future):
        step = (torch.stack(recent[-order:], -1) * taps).sum(-1)
        recent.append(step * (limit / step.abs().clamp_min(tiny)).clamp_max(1.0))
    return torch.stack(recent[order:], -1)


class EigenARPredictor:
    """AR prediction in the link's own eigenbasis (see the module's docstring).

    Args:
        order: taps of the AR filters; shrinks to three quarters of a short history.
        ridge: loading of the least squares, relative to the mean tap power.
        num_bins: strongest coefficients kept; the others are predicted as zero.
        num_classes: energy classes, each with a filter of its own.
        shrinkage: pull of each coefficient's filter to that of its class; ``inf``: one filter a class.
        mean_share: share of the history's mean that is set aside, as in :class:`airlam.baselines.ar.ARPredictor`; the
            eigenbasis is then that of the deviations.
        forward_backward: see :meth:`Eigenbasis.of`.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> EigenARPredictor().predict(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    name = "eigen-ar"

    def __init__(
        self,
        order: int = 12,
        ridge: float = 1e-4,
        num_bins: int = 256,
        num_classes: int = 4,
        shrinkage: float = 3.0,
        *,
        mean_share: float = 0.0,
        forward_backward: bool = True,
    ):
        if order < 1 or num_bins < 1 or num_classes < 1:
            raise ValueError(f"order, num_bins, num_classes must be at least 1, got {order}, {num_bins}, {num_classes}")
        if ridge < 0 or shrinkage < 0:
            raise ValueError(f"ridge and shrinkage must not be negative, got {ridge}, {shrinkage}")
        self.order, self.ridge, self.num_bins = order, ridge, num_bins
        self.num_classes, self.shrinkage = num_classes, shrinkage
        self.mean_share = check_mean_share(mean_share)
        if not isinstance(forward_backward, bool):
            raise TypeError(f"forward_backward is {forward_backward!r}, but must be true or false")
        self.forward_backward = forward_backward

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`."""
        polarisations = check_prediction_request(h_past, num_future, port_shape)[0]
        if self.mean_share == 0:
            return self._predict(h_past, num_future, polarisations)
        mean = self.mean_share * h_past.mean(-4, keepdim=True)
        return mean + self._predict(h_past - mean, num_future, polarisations)

    def _predict(self, h_past: Tensor, num_future: int, polarisations: int) -> Tensor:
        h = h_past.flatten(0, -5) if h_past.dim() > 4 else h_past[None]
        basis = Eigenbasis.of(h, polarisations, forward_backward=self.forward_backward)
        bins = basis.forward(h)
        series, index = strongest(bins, self.num_bins)
        future = class_ar(
            series,
            num_future,
            order=self.order,
            ridge=self.ridge,
            num_classes=self.num_classes,
            shrinkage=self.shrinkage,
        )
        out = basis.inverse(place(future, index, bins.shape[1]), h.shape[3])
        return out.reshape(*h_past.shape[:-4], *out.shape[1:])
