"""A predictor as a block of a Sionna link: estimates of past slots in, channels of the slots to come out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sionna.phy import Block
from torch import Tensor

from airlam.csi import PortShape, resolve_inputs
from airlam.interfaces import Predictor
from airlam.loading import load_predictor

ERRORS = {"variance": "predict_with_variance", "covariance": "predict_with_covariance"}


class PredictorBlock(Block):
    """Any predictor of airlam between a channel estimator and a precoder of Sionna.

    Sionna's estimates and precoders have ``[batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_ofdm_symbols,
    num_subcarriers]``. The OFDM symbols of the estimate are those of the past slots, oldest first; those of the result
    belong to the slots that follow. Every pair of receiver and transmitter is a link of its own.

    Args:
        predictor: what :func:`airlam.load_predictor` takes: a name, a checkpoint, a class path, or an object.
        num_future: slots to predict.
        symbols_per_slot: OFDM symbols of a slot. A predictor sees one symbol of each slot; what it predicts is held
            for all symbols of the slot to come. 1: every symbol of the estimate is a slot (a CSI occasion).
        csi_symbol: which symbol of a slot the predictor sees; None: the middle one.
        port_shape: (polarisations, columns, rows) of the base station's antennas, the order of Sionna's
            ``PanelArray``; None: one line of ports.
        uplink: the estimate is of the up-link: the base station is the receiver. The result is then of the down-link,
            by reciprocity: ``[batch_size, num_tx, num_tx_ant, num_rx, num_rx_ant, ...]``, not conjugated.
        error: ``"variance"`` or ``"covariance"``: also return what the predictor says of its errors, None: do not.
        precision, device: as in every block of Sionna.

    Inputs:
        h_past: ``complex [batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_slots * symbols_per_slot,
            num_subcarriers]``. Subcarriers should be evenly spaced; a nulled carrier amid them (DC) costs accuracy.
        context: optional, side information for the predictor with leading axes ``[batch_size, user, base station]``
            (:class:`airlam.interfaces.Predictor`).

    Outputs:
        h_future: ``complex``, as ``h_past``, with ``num_future * symbols_per_slot`` symbols.
        error: with ``error="variance"`` real, as ``h_future``; Sionna's equalisers call it ``err_var``. With
            ``"covariance"`` complex, with a second axis of the base station's antennas behind the first: the input
            of :class:`airlam.link.PrecoderBlock`.

    Raises:
        ValueError: an option or shape that does not fit.
        TypeError: ``error`` of a predictor that does not state its errors.

    Example:
        >>> import torch
        >>> predict = PredictorBlock("ar", num_future=2, symbols_per_slot=14, port_shape=(2, 2, 2))
        >>> h_hat = torch.randn(3, 4, 1, 1, 8, 16 * 14, 12, dtype=torch.complex64)  # 16 slots of 4 users' down-link
        >>> predict(h_hat).shape
        torch.Size([3, 4, 1, 1, 8, 28, 12])
    """

    def __init__(
        self,
        predictor: str | Path | Mapping[str, Any] | Predictor = "airlam-tiny",
        num_future: int = 1,
        *,
        symbols_per_slot: int = 1,
        csi_symbol: int | None = None,
        port_shape: PortShape | None = None,
        uplink: bool = False,
        error: str | None = None,
        precision: str | None = None,
        device: str | None = None,
    ):
        super().__init__(precision=precision, device=device)
        if symbols_per_slot < 1:
            raise ValueError(f"symbols_per_slot must be at least 1, got {symbols_per_slot}")
        csi_symbol = symbols_per_slot // 2 if csi_symbol is None else csi_symbol
        if not 0 <= csi_symbol < symbols_per_slot:
            raise ValueError(f"csi_symbol is {csi_symbol}, but a slot has the symbols 0 to {symbols_per_slot - 1}")
        if error not in (None, *ERRORS):
            raise ValueError(f"error must be {', '.join(map(repr, ERRORS))} or None, got {error!r}")
        self.predictor = load_predictor(predictor)
        if error and not hasattr(self.predictor, ERRORS[error]):
            raise TypeError(
                f"predictor {self.predictor.name!r} has no {ERRORS[error]}, so error={error!r} cannot be given; "
                "'airlam-tiny' has both, 'kalman' and 'wiener' have the variance"
            )
        self.num_future, self.symbols_per_slot, self.csi_symbol = num_future, symbols_per_slot, csi_symbol
        self.port_shape, self.uplink, self.error = port_shape, uplink, error

    @resolve_inputs
    def call(self, h_past: Tensor, context: dict | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        if not isinstance(h_past, Tensor) or h_past.dim() != 7:
            shape = tuple(h_past.shape) if isinstance(h_past, Tensor) else type(h_past).__name__
            raise ValueError(
                "h_past must be [batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_ofdm_symbols, "
                f"num_subcarriers], 7 axes, got {shape}"
            )
        if h_past.shape[5] % self.symbols_per_slot:
            raise ValueError(
                f"h_past has {h_past.shape[5]} OFDM symbols, but must have whole slots of {self.symbols_per_slot}; "
                "cut it, or change symbols_per_slot"
            )
        if self.uplink:
            h_past = h_past.permute(0, 3, 4, 1, 2, 5, 6)
        # [batch, user, base station, slot, subcarrier, rx_ant, tx_ant]
        csi = h_past.permute(0, 1, 3, 5, 6, 2, 4)[:, :, :, self.csi_symbol :: self.symbols_per_slot]
        arguments: dict[str, Any] = {"port_shape": self.port_shape, "context": context}
        if self.error is None:
            return self._to_sionna(self.predictor.predict(csi, self.num_future, **arguments))
        stated = getattr(self.predictor, ERRORS[self.error])
        h_future, error = stated(csi, self.num_future, **arguments)
        return self._to_sionna(h_future), self._to_sionna(error)

    def _to_sionna(self, x: Tensor) -> Tensor:
        """``[batch, user, base station, slot, subcarrier, rx_ant, tx_ant, ...]`` in Sionna's order, slots held."""
        if self.symbols_per_slot > 1:
            x = x.repeat_interleave(self.symbols_per_slot, dim=3)
        return x.movedim((3, 4), (-2, -1)).movedim(2, 3)
