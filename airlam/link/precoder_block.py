"""A precoder as a block of a Sionna link, in the place of Sionna's ``RZFPrecoder``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sionna.phy import Block
from sionna.phy.mimo import StreamManagement
from sionna.phy.ofdm import ResourceGrid
from torch import Tensor

from airlam.csi import resolve_inputs
from airlam.interfaces import Precoder, check_precoding_request
from airlam.loading import load_precoder

AXES = "[batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_ofdm_symbols, num_subcarriers]"


class PrecoderBlock(Block):
    """Any precoder of airlam where a link has ``sionna.phy.ofdm.RZFPrecoder``.

    The precoder is told the channels and the noise variance ``no``; ``RZFPrecoder`` is told the regularisation
    ``alpha`` instead. With ``"rzf"`` and the default power both give the same for ``alpha = no``.

    Args:
        resource_grid, stream_management: those of the down-link, as for Sionna's precoders.
        precoder: what :func:`airlam.load_precoder` takes: a name, a checkpoint, a class path, or an object. A user
            with several antennas has one stream for each of them (as in Sionna); with one stream for all of them give
            ``load_precoder(name, rx_axis=True)``.
        power: of each transmitter per resource element, for symbols of unit power. None: the number of its streams,
            as Sionna's precoders have.
        return_effective_channel: also return ``h_eff``.
        precision, device: as in every block of Sionna.

    Inputs:
        x: ``complex [batch_size, num_tx, num_streams_per_tx, num_ofdm_symbols, fft_size]``: resource grids.
        h: ``complex [batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_symbols, num_subcarriers]``: what the
            transmitters know. ``num_subcarriers`` is that of the grid (``fft_size``) or of an estimate
            (``num_effective_subcarriers``). ``num_symbols`` divides that of the grid: each entry is used for as many
            symbols in a row, so a prediction per slot needs no copies.
        no: noise variance: a number, ``[batch_size]`` or ``[batch_size, num_rx]``.
        error_covariance: optional, ``complex [batch_size, num_rx, num_rx_ant, num_tx, num_tx_ant, num_tx_ant,
            num_symbols, num_subcarriers]``: covariance of the errors of ``h``, as :class:`PredictorBlock` states it
            with ``error="covariance"``.
        h_true: optional, as ``h``: the channel of which ``h_eff`` is made. None: ``h``.

    Outputs:
        x_precoded: ``complex [batch_size, num_tx, num_tx_ant, num_ofdm_symbols, fft_size]``.
        h_eff: ``complex [batch_size, num_rx, num_rx_ant, num_tx, num_streams_per_tx, num_ofdm_symbols,
            num_effective_subcarriers]``, with ``return_effective_channel=True``.

    Raises:
        ValueError: shapes that do not fit the grid, the streams or each other.

    Example:
        >>> import numpy as np
        >>> grid = ResourceGrid(num_ofdm_symbols=14, fft_size=12, subcarrier_spacing=30e3, num_streams_per_tx=4)
        >>> precode = PrecoderBlock(grid, StreamManagement(np.ones((4, 1), int), 4), "wmmse")
        >>> x = torch.ones(2, 1, 4, 14, 12, dtype=torch.complex64)
        >>> h = torch.randn(2, 4, 1, 1, 8, 1, 12, dtype=torch.complex64)  # one slot, 4 users, 8 antennas
        >>> precode(x, h, 0.01).shape
        torch.Size([2, 1, 8, 14, 12])
    """

    def __init__(
        self,
        resource_grid: ResourceGrid,
        stream_management: StreamManagement,
        precoder: str | Path | Mapping[str, Any] | Precoder = "rzf",
        *,
        power: float | None = None,
        return_effective_channel: bool = False,
        precision: str | None = None,
        device: str | None = None,
    ):
        super().__init__(precision=precision, device=device)
        if not isinstance(resource_grid, ResourceGrid):
            raise TypeError(f"resource_grid must be Sionna's ResourceGrid, got {type(resource_grid).__name__}")
        if not isinstance(stream_management, StreamManagement):
            raise TypeError(
                f"stream_management must be Sionna's StreamManagement, got {type(stream_management).__name__}"
            )
        streams = stream_management.num_streams_per_tx
        self.power = float(streams if power is None else power)
        if not 0 < self.power < float("inf"):
            raise ValueError(f"power must be positive and finite (linear, not dB), got {power}")
        self.precoder, self.num_streams = load_precoder(precoder), streams
        self.return_effective_channel = return_effective_channel
        self.num_symbols, self.fft_size = resource_grid.num_ofdm_symbols, resource_grid.fft_size
        self.register_buffer(
            "_tones", torch.as_tensor(resource_grid.effective_subcarrier_ind, device=self.device).long()
        )
        self.register_buffer("_users", torch.as_tensor(stream_management.precoding_ind, device=self.device).long())

    @resolve_inputs
    def call(
        self,
        x: Tensor,
        h: Tensor,
        no: float | Tensor,
        error_covariance: Tensor | None = None,
        h_true: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        want = (self._users.shape[0], self.num_streams, self.num_symbols, self.fft_size)
        if not isinstance(x, Tensor) or x.dim() != 5 or tuple(x.shape[1:]) != want:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"x {given} must be [batch_size, num_tx, num_streams_per_tx, num_ofdm_symbols, fft_size] "
                f"with {want} of the grid and the streams"
            )
        x = x.to(self.cdtype)
        h = self._effective(self._check(h, "h", x.shape[0]))
        if error_covariance is not None:
            error_covariance = self._effective(error_covariance)
        w = self.matrices(h, no, error_covariance)  # batch, tx, symbol, tone, tx_ant, stream
        w = w.repeat_interleave(self.num_symbols // w.shape[2], dim=2)
        seen = torch.einsum("btofas,btsof->btaof", w, x[..., self._tones])
        sent = x.new_zeros(*seen.shape[:-1], self.fft_size)
        sent[..., self._tones] = seen
        if not self.return_effective_channel:
            return sent
        truth = h if h_true is None else self._effective(self._check(h_true, "h_true", x.shape[0]))
        truth = truth.repeat_interleave(self.num_symbols // truth.shape[5], dim=5)
        return sent, torch.einsum("brytaof,btofas->brytsof", truth, w)

    def matrices(self, h: Tensor, no: float | Tensor, error_covariance: Tensor | None = None) -> Tensor:
        """The precoding matrices alone, ``complex [batch_size, num_tx, num_symbols, num_subcarriers, num_tx_ant,
        num_streams_per_tx]``; arguments as in a call."""
        rows = self._of_transmitters(h.permute(3, 1, 0, 5, 6, 2, 4))  # batch, tx, symbol, tone, user, rx_ant, tx_ant
        users, antennas = rows.shape[4:6]
        one_stream_each = self.num_streams == users and (antennas > 1 or getattr(self.precoder, "rx_axis", False))
        if one_stream_each and not getattr(self.precoder, "rx_axis", False):
            raise ValueError(
                f"each of the {users} users of a transmitter has {antennas} antennas and one stream: give "
                f"precoder=load_precoder({self.precoder.name!r}, rx_axis=True), or {users * antennas} streams"
            )
        if not one_stream_each and self.num_streams != users * antennas:
            raise ValueError(
                f"{self.num_streams} streams per transmitter do not fit {users} users of {antennas} antennas; give "
                f"one stream for each antenna ({users * antennas}), or one for each user ({users})"
            )
        noise = self._noise(no, h)
        if not one_stream_each:
            if getattr(self.precoder, "rx_axis", False):
                raise ValueError("a precoder with rx_axis=True gives each user one stream, not one for each antenna")
            rows, noise = rows.flatten(4, 5), noise.repeat_interleave(antennas, dim=-1)
        told = {}
        if error_covariance is not None:
            if tuple(error_covariance.shape) != (*h.shape[:5], h.shape[4], *h.shape[5:]):
                raise ValueError(
                    f"error_covariance {tuple(error_covariance.shape)} must be h {tuple(h.shape)} with num_tx_ant twice"
                )
            if one_stream_each and antennas > 1:
                raise ValueError("error_covariance needs one stream for each receive antenna")
            errors = self._of_transmitters(error_covariance.permute(3, 1, 0, 6, 7, 2, 4, 5)).flatten(4, 5)
            told["error_covariance"] = errors
        check_precoding_request(rows, self.power, noise)
        noise = noise.expand(*rows.shape[:4], noise.shape[-1])
        w = self.precoder.precode(rows, self.power, noise, **told)
        want = (*rows.shape[:4], h.shape[4], self.num_streams)
        if tuple(w.shape) != want:
            raise ValueError(f"precoder {self.precoder.name!r} gave {tuple(w.shape)} in the place of {want}")
        return w

    def _check(self, h: Tensor, name: str, batch: int) -> Tensor:
        if h.dim() != 7 or h.shape[0] != batch or h.shape[3] != self._users.shape[0]:
            raise ValueError(
                f"{name} {tuple(h.shape)} must be {AXES} with batch_size {batch} and num_tx {self._users.shape[0]}"
            )
        if h.shape[1] <= int(self._users.max()):
            raise ValueError(f"{name} has {h.shape[1]} receivers, but the streams name number {int(self._users.max())}")
        if h.shape[5] < 1 or self.num_symbols % h.shape[5]:
            raise ValueError(f"{name} has {h.shape[5]} symbols, which do not divide the {self.num_symbols} of the grid")
        return h

    def _effective(self, h: Tensor) -> Tensor:
        """``h`` on the effective subcarriers."""
        if h.shape[-1] == self.fft_size:
            return h[..., self._tones]
        if h.shape[-1] != len(self._tones):
            raise ValueError(
                f"there are {h.shape[-1]} subcarriers, but the grid has {self.fft_size}, {len(self._tones)} of them "
                "effective"
            )
        return h

    def _of_transmitters(self, h: Tensor) -> Tensor:
        """``[tx, rx, batch, symbol, tone, ...]`` -> each transmitter's own users, ``[batch, tx, symbol, tone, user,
        ...]``."""
        own = torch.stack([h[i, users] for i, users in enumerate(self._users)])
        return own.movedim(2, 0).movedim(2, 4)

    def _noise(self, no: float | Tensor, h: Tensor) -> Tensor:
        """``[batch or 1, tx, 1, 1, user]``."""
        noise = torch.as_tensor(no, dtype=h.real.dtype, device=h.device)
        batch, receivers = h.shape[:2]
        if noise.dim() > 2 or (noise.dim() and noise.shape not in ((batch,), (batch, 1), (batch, receivers))):
            raise ValueError(
                f"no {tuple(noise.shape)} must be one value, [batch_size] or [batch_size, num_rx]: {(batch, receivers)}"
            )
        noise = noise.reshape(-1, 1) if noise.dim() < 2 else noise
        return noise.expand(-1, receivers)[:, self._users][:, :, None, None]
