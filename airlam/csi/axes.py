"""The axes of CSI: their order, how transmit antennas fold into a panel, and other axes in the place of the slots.

CSI is ``complex [..., slot, subcarrier, rx_ant, tx_ant]``; a batch has one link per entry. A slot is one CSI
occasion. Groups of users of one base station put ``user`` right before ``slot``.

The ``tx_ant`` axis folds into ``port_shape = (polarisations, columns, rows)`` in Sionna's port order: all ports of
the first polarisation, then those of the second; within one, top to bottom down each column.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.csi.lazy import resolve_inputs

SLOT, SUBCARRIER, RX_ANT, TX_ANT = -4, -3, -2, -1
PortShape = tuple[int, int, int]


@resolve_inputs
def from_sionna(h: Tensor) -> Tensor:
    """Sionna's OFDM channel -> airlam's CSI.

    Args:
        h: ``[batch, num_rx, num_rx_ant, num_tx, num_tx_ant, num_slots, num_subcarriers]`` with ``num_rx * num_tx``
            links in each batch entry.

    Returns:
        ``[batch * num_rx * num_tx, slot, subcarrier, rx_ant, tx_ant]``; links run over batch, then rx, then tx.

    Example:
        >>> from_sionna(torch.zeros(5, 2, 1, 1, 8, 14, 48, dtype=torch.complex64)).shape
        torch.Size([10, 14, 48, 1, 8])
    """
    if h.dim() != 7:
        raise ValueError(f"Sionna's OFDM channel has 7 axes, got {h.dim()}: {tuple(h.shape)}")
    return h.permute(0, 1, 3, 5, 6, 2, 4).flatten(0, 2)


@resolve_inputs
def to_sionna(h: Tensor) -> Tensor:
    """airlam's CSI ``[batch, slot, subcarrier, rx_ant, tx_ant]`` -> Sionna's order with one rx and one tx.

    Example:
        >>> to_sionna(torch.zeros(10, 14, 48, 1, 8)).shape
        torch.Size([10, 1, 1, 1, 8, 14, 48])
    """
    if h.dim() != 5:
        raise ValueError(f"CSI has 5 axes [batch, slot, subcarrier, rx_ant, tx_ant], got {h.dim()}: {tuple(h.shape)}")
    return h.permute(0, 3, 4, 1, 2)[:, None, :, None]


def check_port_shape(num_tx_ant: int, port_shape: PortShape | None) -> PortShape:
    """``port_shape`` as a tuple of ints whose product is ``num_tx_ant``; ``None`` means one line of ports."""
    if port_shape is None:
        return (1, num_tx_ant, 1)
    whole = isinstance(port_shape, (tuple, list, torch.Size)) and all(type(n) is int for n in port_shape)
    shape = tuple(port_shape) if whole else ()
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"port_shape is (polarisations, columns, rows), three positive integers; got {port_shape}")
    if math.prod(shape) != num_tx_ant:
        raise ValueError(
            f"port_shape {shape} folds {math.prod(shape)} ports, but the CSI has {num_tx_ant} transmit antennas; "
            "give the shape of the panel that made this CSI, or None for one line of ports"
        )
    return shape  # type: ignore[return-value]


@resolve_inputs
def series_along(h: Tensor, axis: str, port_shape: PortShape | None = None) -> tuple[Tensor, PortShape]:
    """CSI with another axis in the place of the slots: what predicts over time then predicts over tones or antennas.

    Args:
        h: ``[..., slot, subcarrier, rx_ant, tx_ant]``.
        axis: ``"slot"`` (unchanged), ``"subcarrier"`` (slots and tones change places), or ``"column"`` (the panel's
            columns come first, slots join the receive antennas).
        port_shape: (polarisations, columns, rows) of ``tx_ant``.

    Returns:
        The view ``[..., series, *, *, *]`` and the port shape of its last axis.

    Example:
        >>> x, shape = series_along(torch.zeros(5, 2, 48, 1, 32), "column", (2, 4, 4))
        >>> x.shape, shape
        (torch.Size([5, 4, 48, 2, 8]), (2, 1, 4))
    """
    polarisations, columns, rows = check_port_shape(h.shape[TX_ANT], port_shape)
    if axis == "slot":
        return h, (polarisations, columns, rows)
    if axis == "subcarrier":
        return h.transpose(SLOT, SUBCARRIER), (polarisations, columns, rows)
    if axis == "column":
        folded = h.unflatten(TX_ANT, (polarisations, columns, rows))  # ..., slot, tone, rx, polarisation, column, row
        moved = folded.movedim((-2, -5, -6), (-6, -5, -4))  # ..., column, tone, slot, rx, polarisation, row
        return moved.flatten(-2).flatten(-3, -2), (polarisations, 1, rows)
    raise ValueError(f"axis must be slot, subcarrier or column, got {axis!r}")


@resolve_inputs
def series_back(
    x: Tensor, axis: str, port_shape: PortShape | None, shape: torch.Size | tuple[int, int, int, int]
) -> Tensor:
    """Inverse of :func:`series_along`.

    Args:
        x: ``[..., series, *, *, *]``.
        axis, port_shape: as they were.
        shape: (slot, subcarrier, rx_ant, tx_ant) of the CSI.

    Example:
        >>> h = torch.randn(5, 2, 48, 1, 32)
        >>> x, _ = series_along(h, "column", (2, 4, 4))
        >>> torch.equal(series_back(x, "column", (2, 4, 4), h.shape[-4:]), h)
        True
    """
    if axis == "slot":
        return x
    if axis == "subcarrier":
        return x.transpose(SLOT, SUBCARRIER)
    if axis != "column":
        raise ValueError(f"axis must be slot, subcarrier or column, got {axis!r}")
    polarisations, _, rows = check_port_shape(shape[-1], port_shape)
    folded = x.unflatten(-1, (polarisations, rows)).unflatten(-3, (shape[0], shape[2]))
    # ..., column, tone, slot, rx, polarisation, row -> ..., slot, tone, rx, polarisation, column, row
    return folded.movedim((-6, -5, -4), (-2, -5, -6)).flatten(-3)
