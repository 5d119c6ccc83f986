"""An :class:`AirlamModel` behind the interface of every predictor."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from airlam.csi import PortShape, resolve_inputs
from airlam.interfaces import check_observed, check_prediction_request, extreme_scale
from airlam.models.airlam_model import AirlamModel
from airlam.models.spectral_model import SpectralModel
from airlam.models.views import WEIGHTS


class AirlamPredictor:
    """Channel prediction by an :class:`AirlamModel`.

    Args:
        model: an :class:`AirlamModel`, the same adapted by :func:`airlam.models.add_lora`, or another
            :class:`SpectralModel` that is a module (an exported graph).
        name: of the row in tables.
        correction: False gives only the classical start; the difference between both is the contribution of the
            network.
        chunk: links per forward pass, bounds the memory.
        views: bases that predictions are averaged over, instead of the checkpoint's own number
            (``AirlamConfig.views``): 3 take three times as long as 1, for some tenths of a decibel.
        precision: ``"float32"``, or ``"bfloat16"`` for the backbone's weights and activations (of a copy): faster where
            the CPU multiplies bfloat16 (AVX-512 BF16, AMX), slower elsewhere.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> predictor = AirlamPredictor(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)))
        >>> predictor.predict(torch.randn(16, 12, 1, 4, dtype=torch.complex64), 4).shape
        torch.Size([4, 12, 1, 4])
    """

    def __init__(
        self,
        model: SpectralModel,
        name: str = "airlam",
        *,
        correction: bool = True,
        chunk: int = 64,
        views: int | None = None,
        precision: str = "float32",
    ):
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', got {precision!r}")
        if precision == "bfloat16":
            if not isinstance(_base(model), AirlamModel):
                raise ValueError(
                    "an exported model runs in the precision that it was exported in; one with a parallel adapter in "
                    "float32"
                )
            model = copy.deepcopy(model)
            _base(model).backbone.to(torch.bfloat16)  # type: ignore[attr-defined]
        if views is not None and views not in WEIGHTS:
            raise ValueError(f"views must be one of {', '.join(map(str, WEIGHTS))}, got {views!r}")
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk is {chunk!r}, but must be a whole number of at least 1")
        if not isinstance(correction, bool):
            raise TypeError(f"correction is {correction!r}, but must be true or false")
        model = model.eval()  # type: ignore[attr-defined]
        self.model, self.name, self.correction, self.chunk = model, name, correction, chunk
        self.views = views

    def uncorrected(self, name: str) -> AirlamPredictor:
        """The same network with its learned correction off, under another name."""
        return AirlamPredictor(self.model, name, correction=False, views=self.views)

    @resolve_inputs
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`. Computes in single precision.

        ``context`` may hold ``observed``, ``bool [..., slot]``: False where a slot was not measured; what stands there
        is ignored. A model with ``config.context`` also takes readings of other sensors from it, with the leading axes
        of ``h_past`` (:func:`airlam.models.context.read_sensors`).
        """
        forward = functools.partial(self.model, correction=self.correction, views=self.views)
        return self._run(forward, h_past, num_future, port_shape, context)[0]

    @resolve_inputs
    def predict_with_variance(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """Prediction, and the variance of each entry's error: real, of the same shape.

        Raises:
            ValueError: the checkpoint was trained without error variances.
        """
        forward = self._with_variance()
        future, variance = self._run(forward, h_past, num_future, port_shape, context)
        return future, variance

    @resolve_inputs
    def predict_with_covariance(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        context: dict | None = None,
        subcarriers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Prediction, and the covariance of each entry's errors over the transmit antennas.

        The covariance, ``E[e^H e]`` of the row ``e = h - h_future`` over ``tx_ant``, is the input of robust precoders:
        it says in which directions the prediction is uncertain. Its diagonal is the variance of
        :meth:`predict_with_variance`.

        Args:
            h_past, num_future, port_shape, context: see :meth:`predict`.
            subcarriers: indices of those that are wanted: covariances are large. None: all.

        Returns:
            ``h_future [..., num_future, subcarrier, rx_ant, tx_ant]``, and the covariance, complex, with one more
            ``tx_ant``.

        Raises:
            ValueError: the checkpoint was trained without error variances.

        Example:
            >>> from airlam import load_precoder, load_predictor
            >>> users = torch.randn(4, 16, 12, 1, 8, dtype=torch.complex64)  # one base station's users
            >>> h, c = load_predictor("airlam-tiny").predict_with_covariance(users, 2, port_shape=(2, 2, 2))
            >>> h, c = h.movedim(0, -2)[..., 0, :, :], c.movedim(0, -3)[..., 0, :, :, :]
            >>> load_precoder("rzf").precode(h, 1.0, 0.01, error_covariance=c).shape  # [slot, subcarrier, tx_ant, user]
            torch.Size([2, 12, 8, 4])
        """
        forward = functools.partial(self._with_variance(covariance=True), subcarriers=subcarriers)
        future, covariance = self._run(forward, h_past, num_future, port_shape, context, covariance=True)
        return future, covariance

    def _with_variance(self, covariance: bool = False) -> Callable:
        if not self.correction:
            raise ValueError("error variances are those of the learned filters; load the predictor with correction on")
        return functools.partial(_base(self.model).forward_with_variance, views=self.views, covariance=covariance)

    def _readings(self, context: dict | None) -> dict[str, Any] | None:
        """The context, leading axes of readings flattened to one of links."""
        if context is None or not _base(self.model).config.context:
            return None
        out = {key: value for key, value in context.items() if key != "observed"}
        for name, shape in (
            ("velocity", (-1, 3)),
            ("position", (-1, 3)),
            ("velocity_age_s", (-1,)),
            ("position_age_s", (-1,)),
        ):
            if out.get(name) is None:
                continue
            value = torch.as_tensor(out[name])  # lists and arrays, too
            if value.dim() and (len(shape) == 1 or value.shape[-1] == 3):
                out[name] = value.reshape(shape)
        return out

    def _run(self, forward, h_past, num_future, port_shape, context, covariance=False) -> list[Tensor]:
        seen = check_observed(h_past, context)
        longest = _base(self.model).config.max_history
        if seen is not None and not bool(seen[:, -longest:].any(-1).all()):
            raise ValueError(
                f"context['observed'] leaves a link without a measured slot among the last {longest}, which are all "
                "that this model looks at"
            )
        if seen is not None:  # whatever stands in the other slots, NaN included
            h_past = torch.where(seen.reshape(h_past.shape[:-3])[..., None, None, None], h_past, 0)
        shape = check_prediction_request(h_past, num_future, port_shape)
        scale = extreme_scale(h_past)
        if scale is not None:
            h_past = h_past / scale
        h = h_past.to(torch.complex64).reshape(-1, *h_past.shape[-4:])
        readings = self._readings(context)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(h), self.chunk):
                part = slice(start, start + self.chunk)
                out = forward(
                    h[part],
                    num_future,
                    port_shape=shape,
                    observed=None if seen is None else seen[part],
                    context=None if readings is None else {k: _part(v, part) for k, v in readings.items()},
                )
                parts.append(out if isinstance(out, tuple) else (out,))
        if not parts:
            empty = h.new_zeros(0, num_future, *h.shape[-3:])
            parts = [(empty, empty[..., None, :] * empty[..., None] if covariance else empty.real)]
        lead = h_past.shape[:-4]
        whole = [torch.cat(kind).reshape(*lead, *kind[0].shape[1:]) for kind in zip(*parts, strict=True)]
        whole = [x.to(h_past.dtype if x.is_complex() else h_past.dtype.to_real()) for x in whole]
        # predictions scale as CSI does, variances as its square
        if scale is None:
            return whole
        return [x * scale[(...,) + (None,) * (x.dim() - scale.dim())] ** (power + 1) for power, x in enumerate(whole)]


def _part(value: Any, part: slice) -> Any:
    return value[part] if isinstance(value, Tensor) and value.dim() else value


def _base(model) -> SpectralModel:
    adapted = not isinstance(model, SpectralModel) and hasattr(model, "get_base_model")
    return model.get_base_model() if adapted else model
