"""Errors of the base station's array: gains and phases of its ports, and coupling between neighbours.

They are part of the channel, the same over slots and subcarriers and for all users of a base station, so a predictor
has to foretell CSI with them. Array models that trust the positions of the ports suffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.errors import RecipeError
from airlam.recipes import check_keys, check_number

BOUNDS = {"gain_std_db": (0.0, 20.0), "phase_std": (0.0, 10.0), "coupling_db": (-200.0, 0.0)}


def check_array_errors(value: object) -> dict[str, float] | None:
    """The value of a recipe's key ``array_errors``, checked; ``None`` for no errors.

    Keys: ``gain_std_db`` and ``phase_std`` [rad], standard deviations over ports; ``coupling_db``, power that a port
    takes from each neighbour in its row and column, of its own polarisation.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise RecipeError(f"array_errors is {value!r}, but must be a mapping with {', '.join(BOUNDS)}")
    check_keys("array_errors", value, BOUNDS)
    return {key: check_number(f"array_errors.{key}", value[key], *BOUNDS[key]) for key in BOUNDS if key in value}


def mixing(errors: Mapping[str, Any], port_shape: PortShape, count: int, generator: torch.Generator) -> Tensor:
    """``complex64 [base station, port, port]``: CSI with errors is ``h @ mixing``.

    Example:
        >>> mixing({"gain_std_db": 0.0}, (1, 2, 1), 1, torch.Generator())[0].real
        tensor([[1., 0.],
                [0., 1.]])
    """
    ports = port_shape[0] * port_shape[1] * port_shape[2]
    gain = 10 ** (errors.get("gain_std_db", 0.0) * torch.randn(count, ports, generator=generator) / 20)
    phase = errors.get("phase_std", 0.0) * torch.randn(count, ports, generator=generator)
    turn = 2 * torch.pi * torch.rand(count, ports, ports, generator=generator)
    place = torch.cartesian_prod(*(torch.arange(n) for n in port_shape)).view(ports, 3)
    apart = (place[:, None] - place).abs()
    beside = (apart.sum(-1) == 1) & (apart[..., 0] == 0)
    level = 10 ** (errors["coupling_db"] / 20) if "coupling_db" in errors else 0.0
    coupled = torch.eye(ports) + level * beside * torch.polar(torch.ones_like(turn), turn)
    return torch.polar(gain, phase)[:, :, None] * coupled
