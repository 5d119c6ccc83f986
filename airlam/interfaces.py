"""What every predictor and precoder promises, and the checks on what users hand in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape, resolve_inputs, resolved, series_along
from airlam.errors import AirlamError as AirlamError  # the errors: for users; airlam itself takes airlam.errors
from airlam.errors import CheckpointError as CheckpointError
from airlam.errors import RecipeError as RecipeError
from airlam.errors import StoreError as StoreError

MAX_FUTURE = 10_000  # slots: 5 s of 0.5 ms, far beyond what any history predicts; a roll-out grows with them


@runtime_checkable
class Predictor(Protocol):
    """Past CSI -> future CSI: one interface for every classical and learned method."""

    name: str

    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """Predict ``num_future`` slots.

        Args:
            h_past: measured CSI ``complex [..., slot, subcarrier, rx_ant, tx_ant]``, oldest slot first.
            num_future: slots to predict, at least 1.
            port_shape: (polarisations, columns, rows) of the ``tx_ant`` axis; ``None``: one line of ports.
            context: optional side information (for example ``{"speed": tensor [m/s], "slot_duration": s,
                "carrier_frequency": Hz}``); a method takes what it knows and ignores the rest.

        Returns:
            ``complex [..., num_future, subcarrier, rx_ant, tx_ant]``, dtype and device of ``h_past``. Finite for any
            finite input, independent of the other links of the batch.
        """
        ...


@runtime_checkable
class Precoder(Protocol):
    """CSI of the users of one base station -> precoder."""

    name: str

    def precode(self, h: Tensor, power: float | Tensor, no: float | Tensor, *, error_covariance=None) -> Tensor:
        """Args: ``h complex [..., user, tx_ant]`` (rows not conjugated: ``y_k = h_k x + n_k``), transmit ``power``
        and noise variance ``no`` per resource element, linear. Returns ``w complex [..., tx_ant, user]`` with
        ``sum_k ||w_k||^2 <= power``."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Part of an axis measured -> all of the CSI: one interface for every classical and learned method."""

    name: str

    def estimate(
        self,
        h_measured: Tensor,
        observed: Tensor | None = None,
        *,
        axis: str = "slot",
        port_shape: PortShape | None = None,
        context: dict | None = None,
    ) -> Tensor:
        """Estimate every sample of an axis.

        Args:
            h_measured: measured CSI ``complex [..., slot, subcarrier, rx_ant, tx_ant]``; what stands in hidden samples
                is ignored.
            observed: ``bool [sample]`` or ``bool [..., sample]``, True where a sample of the axis was measured; None:
                everywhere.
            axis: ``"slot"``, ``"subcarrier"`` or ``"column"``, see :func:`airlam.csi.series_along`.
            port_shape: (polarisations, columns, rows) of the ``tx_ant`` axis.
            context: optional side information; a method takes what it knows and ignores the rest.

        Returns:
            ``complex``, shape, dtype and device of ``h_measured``: hidden samples estimated, measured ones denoised.
        """
        ...


@runtime_checkable
class Codec(Protocol):
    """Reports of CSI: what a user sends of its precoders, and what the base station makes of it."""

    name: str

    def for_array(self, port_shape: PortShape, subbands: int, layers: int = 1) -> ArrayCodec:
        """The codec for an array and a band.

        Raises:
            ValueError: it does not exist for them.
        """
        ...


class ArrayCodec(Protocol):
    """A codec for one array and band."""

    def report(self, v: Tensor) -> Any:
        """Find a report for wanted precoders ``complex [link, subband, tx_ant, layer]``, whose phases do not count."""
        ...

    def vectors(self, report: Any) -> Tensor:
        """The precoders of a report, ``complex [link, subband, tx_ant, layer]`` of unit norm."""
        ...

    def payload(self, report: Any) -> Tensor:
        """Bits of each link's report, ``int [link]``."""
        ...


def check_csi(h: Tensor, *, min_slots: int = 1, name: str = "h_past") -> Tensor:
    """``h``, lazy conjugation and negation carried out (:func:`airlam.csi.resolved`), if it is finite complex CSI with
    at least ``min_slots`` slots; otherwise an error that says why."""
    if not isinstance(h, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(h).__name__}; torch.as_tensor(...) converts arrays")
    if not h.is_complex():
        raise TypeError(f"{name} must be complex, got {h.dtype}; torch.complex(real, imag) joins two real tensors")
    if h.dim() < 4:
        raise ValueError(
            f"{name} has {h.dim()} axes {tuple(h.shape)}, but CSI is [..., slot, subcarrier, rx_ant, tx_ant]"
        )
    if 0 in h.shape[-4:]:
        raise ValueError(f"{name} has an empty axis: {tuple(h.shape)}")
    if h.shape[-4] < min_slots:
        raise ValueError(f"{name} has {h.shape[-4]} slots, but this method needs at least {min_slots}")
    h = resolved(h, name)
    if not all_finite(h):
        raise ValueError(f"{name} contains NaN or infinity; remove or fill those measurements first")
    return h


def all_finite(h: Tensor) -> bool:
    """Whether a complex tensor is free of NaN and infinity; True on the meta device, whose tensors hold no values."""
    values = torch.view_as_real(resolved(h))
    if values.is_meta:
        return True
    # a finite sum proves finite entries, at a tenth of the cost; huge ones may overflow it, so look again
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def check_prediction_request(
    h_past: Tensor, num_future: int, port_shape: PortShape | None, *, min_slots: int = 1
) -> PortShape:
    """Checks of every ``Predictor.predict``; returns the port shape as a tuple."""
    check_csi(h_past, min_slots=min_slots)
    if isinstance(num_future, bool) or not isinstance(num_future, int):
        raise TypeError(f"num_future must be an int, got {type(num_future).__name__}")
    if num_future < 1:
        raise ValueError(f"num_future must be at least 1, got {num_future}")
    if num_future > MAX_FUTURE:
        raise ValueError(f"num_future is {num_future}, but must be at most {MAX_FUTURE}; predict in shorter pieces")
    return check_port_shape(h_past.shape[-1], port_shape)


def check_observed(h_past: Tensor, context: dict | None) -> Tensor | None:
    """``context["observed"]`` as ``bool [link, slot]``; each link needs one measured slot at least."""
    observed = None if context is None else context.get("observed")
    if observed is None or not isinstance(h_past, Tensor):
        return None
    observed = torch.as_tensor(observed, device=h_past.device)
    if observed.dtype != torch.bool or observed.shape != h_past.shape[:-3]:
        raise ValueError(
            f"context['observed'] is {observed.dtype} {tuple(observed.shape)}, "
            f"but must be bool of shape {tuple(h_past.shape[:-3])}: one entry for each slot of h_past"
        )
    observed = observed.reshape(-1, h_past.shape[-4])
    if not bool(observed.any(-1).all()):
        raise ValueError("context['observed'] leaves a link without any measured slot; at least one is needed")
    return observed


def check_estimation_request(
    h_measured: Tensor, observed: Tensor | None, axis: str, port_shape: PortShape | None
) -> tuple[Tensor, Tensor, PortShape]:
    """Checks of every ``estimate``: the series ``[link, sample, ...]`` with zeros where hidden, ``observed [link,
    sample]``, and the port shape of the series."""
    if not isinstance(h_measured, Tensor) or not h_measured.is_complex() or h_measured.dim() < 4:
        check_csi(h_measured, name="h_measured")  # says what is wrong
    h_measured = resolved(h_measured, "h_measured")
    x, fold = series_along(h_measured, axis, port_shape)
    lead, length = x.shape[:-4], x.shape[-4]
    if observed is None:
        observed = torch.ones(length, dtype=torch.bool, device=x.device)
    observed = torch.as_tensor(observed, device=x.device)
    if observed.dtype != torch.bool or observed.shape not in ((length,), (*lead, length)):
        raise ValueError(
            f"observed is {observed.dtype} {tuple(observed.shape)}, but must be bool of shape ({length},) or "
            f"{(*lead, length)}: one entry for each {axis} of h_measured"
        )
    masks = observed.expand(*lead, length).reshape(-1, length)
    if not bool(masks.any(-1).all()):
        raise ValueError(f"observed leaves a link without any measured {axis}; at least one is needed")
    x = x.reshape(-1, *x.shape[-4:])
    x = torch.where(masks[:, :, None, None, None], x, torch.zeros((), dtype=x.dtype, device=x.device))
    check_csi(x, name="h_measured")
    return x, masks, fold


def extreme_scale(h: Tensor) -> Tensor | None:
    """Peak magnitude ``[..., 1, 1, 1, 1]`` of links whose mean power single precision cannot be trusted with (outside
    [1e-12, 1e12]), 1 for all others; ``None`` if there is no such link."""
    power = torch.view_as_real(resolved(h)).square().mean((-5, -4, -3, -2, -1))
    extreme = ~((power > 1e-12) & (power < 1e12))
    if not extreme.any():
        return None
    peak = h.abs().amax((-4, -3, -2, -1))
    return torch.where(extreme & (peak > 0), peak, torch.ones_like(peak))[..., None, None, None, None]


def any_scale(method: Callable) -> Callable:
    """Decorator of ``predict`` and ``predict_with_variance``: links of any scale, and batches without links.

    Links of an :func:`extreme_scale` are scaled to unit peak before the method, and back after it, each alone; all
    others pass untouched.
    """

    @resolve_inputs
    @functools.wraps(method)
    def predict(self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context=None):
        check_prediction_request(h_past, num_future, port_shape)
        lead = h_past.shape[:-4]
        if 0 in lead:
            empty = h_past.new_zeros(*lead, num_future, *h_past.shape[-3:])
            return (empty, empty.real) if method.__name__ == "predict_with_variance" else empty
        scale = extreme_scale(h_past)
        if scale is None:
            return method(self, h_past, num_future, port_shape=port_shape, context=context)
        out = method(self, h_past / scale, num_future, port_shape=port_shape, context=context)
        return (out[0] * scale, out[1] * scale.square()) if isinstance(out, tuple) else out * scale

    return predict


def check_precoding_request(h: Tensor, power: float | Tensor = 1.0, no: float | Tensor = 1.0) -> None:
    """Checks of every ``Precoder.precode`` and precoder function."""
    if not isinstance(h, Tensor) or not h.is_complex():
        raise TypeError("h must be a complex torch.Tensor [..., user, tx_ant]")
    if h.dim() < 2:
        raise ValueError(f"h has {h.dim()} axes {tuple(h.shape)}, but must be [..., user, tx_ant]")
    if 0 in h.shape[-2:]:
        raise ValueError(f"h {tuple(h.shape)} has no users or no antennas; give at least one of each")
    if not all_finite(h):
        raise ValueError("h contains NaN or infinity; remove those channels first")
    for value, label in ((power, "power"), (no, "no")):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{label} must be a number or a tensor of numbers, got {value!r}") from None
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            given = value.flatten()[:3].tolist()
            raise ValueError(f"{label} must be positive and finite (linear, not dB), got {given}")
