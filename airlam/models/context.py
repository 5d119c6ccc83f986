"""Readings of other sensors, as further tokens of a link.

Readings come in SI units with a timestamp, may be missing for some links or for all, and are converted to radio
quantities before they enter the network: a velocity as Doppler shift in cycles per slot, a position as direction and
distance from the base station. Attention ignores the token of a missing reading.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from airlam.constants import SPEED_OF_LIGHT

SENSORS = {  # name -> features
    "velocity": 5,  # of the user, [m/s], x and y horizontal, z up
    "position": 5,  # of the user, [m], from the foot of the base station
    "cell": 3,  # carrier frequency [Hz], slot duration [s], subcarrier spacing [Hz]
}
RADIO = ("carrier_frequency", "slot_duration", "subcarrier_spacing")


class Readings(dict[str, tuple[Tensor, Tensor]]):
    """Of each sensor ``features [link, feature]``, zero where missing, and ``present``, ``bool [link]``."""


def read_sensors(context: dict[str, Any], sensors: list[str], links: int) -> Readings:
    """Features of the ``sensors`` from a predictor's ``context``.

    Args:
        context: may hold ``velocity`` and ``position``, ``[link, 3]`` with NaN where missing; ``velocity_age_s`` and
            ``position_age_s``, seconds from the reading to the last slot, a number or ``[link]`` (0 if left out);
            and the numbers ``carrier_frequency``, ``slot_duration``, ``subcarrier_spacing``.
        links: number of links.

    Raises:
        ValueError: a reading of another shape, a negative age, or a velocity without carrier and slot.
    """
    out = Readings()
    for sensor in sensors:
        read = {"velocity": _velocity, "position": _position, "cell": _cell}[sensor]
        found = read(context, links)
        if found is None:
            features, present = torch.zeros(links, SENSORS[sensor]), torch.zeros(links, dtype=torch.bool)
        else:
            present = torch.isfinite(found).all(-1)
            features = torch.where(present[:, None], found, 0.0)
        out[sensor] = (features, present)
    return out


def _vectors(context: dict[str, Any], name: str, links: int) -> tuple[Tensor, Tensor] | None:
    """A reading ``[link, 3]``, and its age in slots ``[link]``."""
    if context.get(name) is None:
        return None
    vector = torch.as_tensor(context[name], dtype=torch.float32).detach().cpu()
    if vector.shape != (links, 3):
        raise ValueError(f"context[{name!r}] is {tuple(vector.shape)}, but must be ({links}, 3): x, y, z of each link")
    age = torch.as_tensor(context.get(f"{name}_age_s", 0.0), dtype=torch.float32).detach().cpu()
    if age.shape not in ((), (links,)):
        raise ValueError(f"context['{name}_age_s'] is {tuple(age.shape)}, but must be a number or ({links},)")
    age = age.expand(links)
    if bool((age < 0).any()):
        raise ValueError(f"context['{name}_age_s'] holds {float(age.min()):g} s, but no reading is from the future")
    slot = _radio(context, "slot_duration")
    return vector, torch.log1p(age / slot) if slot else torch.zeros(links)


def _radio(context: dict[str, Any], name: str) -> float | None:
    value = context.get(name)
    if value is None:
        return None
    if not float(value) > 0:
        raise ValueError(f"context[{name!r}] is {value!r}, but must be positive")
    return float(value)


def _velocity(context: dict[str, Any], links: int) -> Tensor | None:
    found = _vectors(context, "velocity", links)
    if found is None:
        return None
    carrier, slot = _radio(context, "carrier_frequency"), _radio(context, "slot_duration")
    if carrier is None or slot is None:
        raise ValueError("context['velocity'] says nothing without 'carrier_frequency' [Hz] and 'slot_duration' [s]")
    doppler = found[0] * (carrier * slot / SPEED_OF_LIGHT)  # cycles per slot
    size = doppler.norm(dim=-1, keepdim=True)
    return torch.cat([torch.asinh(50 * doppler), torch.log10(size + 1e-4) + 2, found[1][:, None]], -1)


def _position(context: dict[str, Any], links: int) -> Tensor | None:
    found = _vectors(context, "position", links)
    if found is None:
        return None
    distance = found[0].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    return torch.cat([found[0] / distance, torch.log10(distance) - 2, found[1][:, None]], -1)


def _cell(context: dict[str, Any], links: int) -> Tensor | None:
    values = [value for value in (_radio(context, name) for name in RADIO) if value is not None]
    if len(values) < len(RADIO):
        return None
    usual = (2e9, 1e-3, 60e3)
    logs = [torch.tensor(float(value)).div(unit).log10() for value, unit in zip(values, usual, strict=True)]
    return torch.stack(logs).expand(links, 3)


class ContextTokens(nn.Module):
    """One token a sensor.

    Args:
        sensors: names out of ``velocity``, ``position``, ``cell``.
        width: of the backbone.

    Example:
        >>> readings = read_sensors({"position": torch.tensor([[30.0, 40.0, 1.5]])}, ["position"], 1)
        >>> tokens, present = ContextTokens(["position"], 16)(readings)
        >>> tokens.shape, present.tolist()
        (torch.Size([1, 1, 16]), [[True]])
    """

    def __init__(self, sensors: list[str], width: int):
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                sensor: nn.Sequential(nn.Linear(SENSORS[sensor], width), nn.GELU(), nn.Linear(width, width))
                for sensor in sensors
            }
        )

    def forward(self, readings: Readings) -> tuple[Tensor, Tensor]:
        """``[link, sensor, width]``, and which are there, ``bool [link, sensor]``."""
        device = next(self.parameters()).device
        tokens = [self.embeddings[name](features.to(device)) for name, (features, _) in readings.items()]
        return torch.stack(tokens, 1), torch.stack([present.to(device) for _, present in readings.values()], 1)
