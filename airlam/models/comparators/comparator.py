"""The base class of all learned comparators: normalisation of CSI before the network, and of predictions after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from airlam.csi import (
    PortShape,
    check_port_shape,
    from_beam_delay,
    mean_power,
    normalise,
    resolve_inputs,
    to_beam_delay,
)
from airlam.models.fields import MAX_LAYERS, check_whole, shown

# least and largest value of whole numbers among a comparator's arguments; of all others: LARGEST
BOUNDS = {
    "history": (1, 1024),
    "horizon": (1, 1024),
    "num_layers": (1, MAX_LAYERS),
    "num_blocks": (1, MAX_LAYERS),
    "num_decoder_layers": (1, MAX_LAYERS),
    "num_heads": (1, 1024),
}
LARGEST = (1, 65536)

Layer = TypeVar("Layer", bound=nn.Module)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises ValueError for an argument of a comparator that is out of bounds, before a layer is made."""
    for name, value in arguments.items():
        if name in ("pretrained", "network"):
            if value is not None and (not isinstance(value, (str, Path)) or len(str(value)) > 1024):
                raise ValueError(f"{name} must be a name of at most 1024 characters or null, got {shown(value)}")
        elif name == "patch":
            if not isinstance(value, (list, tuple)) or len(value) != 3:
                raise ValueError(f"patch is (slots, delays, beams), three positive integers; got {shown(value)}")
            for size in value:
                check_whole("a size of patch", size, 1, 1024)
        else:
            check_whole(name, value, *BOUNDS.get(name, LARGEST))


class Comparator(nn.Module):
    """A network that corrects "hold the last slot" in the beam-delay domain.

    The same frame for every kind, so that they differ in the network alone:

    1. Each receive antenna is a link of its own; each link is scaled to unit mean power by itself.
    2. CSI goes to the beam-delay domain (:func:`airlam.csi.to_beam_delay`), where few coefficients hold the energy.
    3. The network (:meth:`correct`) predicts the next ``horizon`` slots as the last slot plus a correction. Its output
       layer starts at zero: before training a comparator is the hold baseline.
    4. A longer request is rolled out, ``horizon`` slots at a time; no slot may then hold more than twice the energy of
       the strongest slot measured. A shorter request is cut.

    Longer histories are cut to their last ``history`` slots; shorter ones are filled up with copies of their first
    slot.

    Args:
        history: slots that the network sees. horizon: slots that it predicts at once.
        arguments: all other arguments of the subclass, for ``config.json``.
    """

    kind = ""

    def __init__(self, *, history: int, horizon: int, **arguments: Any):
        super().__init__()
        check_arguments({"history": history, "horizon": horizon, **arguments})
        self.history, self.horizon = history, horizon
        self.arguments = {"history": history, "horizon": horizon, **arguments}

    @property
    def config(self) -> dict[str, Any]:
        """Kind and arguments: ``build_comparator(**config)`` makes the same network."""
        return {"kind": self.kind, **self.arguments}

    def check_shape(self, num_subcarriers: int, port_shape: PortShape) -> None:
        """Raises ValueError where the network is fixed to another band or array."""

    def correct(self, x: Tensor, port_shape: PortShape) -> Tensor:
        """The correction of the held last slot.

        Args:
            x: ``complex [link, history, delay, beam]`` of unit mean power.

        Returns:
            ``complex [link, horizon, delay, beam]``.
        """
        raise NotImplementedError

    @resolve_inputs
    def forward(self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None) -> Tensor:
        """Predict.

        Args:
            h_past: measured CSI ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.
            num_future: slots to predict.
            port_shape: (polarisations, columns, rows) of ``tx_ant``; ``None``: one line of ports.

        Returns:
            ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant]``.

        Raises:
            ValueError: the network was made for another band or array.
        """
        shape = check_port_shape(h_past.shape[-1], port_shape)
        self.check_shape(h_past.shape[-3], shape)
        links, receive = h_past.shape[0], h_past.shape[-2]
        h = h_past[:, -self.history :].movedim(-2, 1).flatten(0, 1)[..., None, :]  # link and rx, slot, tone, 1, tx
        if h.shape[1] < self.history:
            h = torch.cat([h[:, :1].expand(-1, self.history - h.shape[1], -1, -1, -1), h], 1)
        live = (mean_power(h) > 0)[:, None, None, None]
        h, scale = normalise(h)
        x = to_beam_delay(h, shape)[..., 0, :]
        out = x[:, -1:] + self.correct(x, shape) * live
        if num_future > self.horizon:
            out = self._roll_out(x, out, num_future, shape) * live
        future = from_beam_delay(out[:, :num_future, :, None, :], shape) * scale
        return future[..., 0, :].unflatten(0, (links, receive)).movedim(1, -2)

    def _roll_out(self, x: Tensor, out: Tensor, num_future: int, shape: PortShape) -> Tensor:
        limit = 2 * _energy(x).amax(1, keepdim=True)
        while out.shape[1] < num_future:
            seen = torch.cat([x, out], 1)[:, -self.history :]
            more = seen[:, -1:] + self.correct(seen, shape)
            more = more * (limit / _energy(more).clamp_min(1e-30)).clamp_max(1).sqrt()
            out = torch.cat([out, more], 1)
        return out


def _energy(x: Tensor) -> Tensor:
    """Energy of each slot ``[link, slot, 1, 1]``."""
    return (x.real.square() + x.imag.square()).sum((-2, -1), keepdim=True)


def turn_to_last(x: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Series turned to the phase of their own last slot, and that phase: ``x = turned * phase``.

    The phase of a ray is uniform and holds no information about its future. Without it the network need not learn to
    ignore it.

    Args:
        x: complex. dim: its axis of slots.
    """
    phase = torch.sgn(x.narrow(dim, x.shape[dim] - 1, 1))
    phase = torch.where(phase == 0, torch.ones_like(phase), phase)
    return x * phase.conj(), phase


def unit_power(x: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """``x`` of unit mean power over ``dim``, and its scale (kept axes): ``x = unit * scale``; zeros keep a tiny one."""
    scale = (x.real.square() + x.imag.square()).mean(dim, keepdim=True).sqrt().clamp_min(1e-6)
    return x / scale, scale


def real_features(x: Tensor) -> Tensor:
    """Complex ``[..., n]`` -> real ``[..., 2 n]``, real and imaginary parts in turn."""
    return torch.view_as_real(x.contiguous()).flatten(-2)


def complex_features(x: Tensor) -> Tensor:
    """Inverse of :func:`real_features`; single precision, whatever the network computes in."""
    return torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())


def silent(layer: Layer) -> Layer:
    """An output layer that starts at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
