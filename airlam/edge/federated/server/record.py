"""What a round of federated training cost and did: measured bytes, modelled seconds and joules, events."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from airlam.edge.federated.messages import shown


@dataclass
class RoundRecord:
    """One round. Sites are numbers in the maps of costs and labels in those of events.

    Attributes:
        number: from 1; 0 is the validation before the first.
        chosen: sites that were sent the model. outage: labels of those that no bandwidth could have reached.
        down_bytes, up_bytes: measured, arrays as they are sent.
        bandwidth: Hz of each. seconds: modelled download, computation, upload of each. joules: modelled, of the device.
        delay: modelled seconds of the round: of its slowest device, and of the edge server for split devices
            (server_seconds; server_joules: its energy).
        compute_seconds: measured, of each device's training on this machine.
        figures: label -> figure of the validation users; train_loss: mean of the devices'.
        lost, rejected: label -> why.
        aggregation_error: of the new adapters' products against the average of the devices' products, relative;
            naive_error: what averaging A and B by themselves would have missed.
        strays: why nodes could not say who they are, or could not validate.
        used: updates that were averaged; None where only their sum is known. notes: what weakened the round.
        validation_bytes: measured, of the model as it was sent for validation; in no other figure, since validation
            serves the experimenter alone.
        epsilon: spent so far; None without noise, or with so little that there is no bound.
    """

    number: int
    chosen: list[int] = field(default_factory=list)
    outage: list[str] = field(default_factory=list)
    down_bytes: dict[int, int] = field(default_factory=dict)
    up_bytes: dict[int, int] = field(default_factory=dict)
    bandwidth: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    joules: dict[int, float] = field(default_factory=dict)
    delay: float = 0.0
    server_seconds: float = 0.0
    server_joules: float = 0.0
    compute_seconds: dict[int, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    lost: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    aggregation_error: float | None = None
    naive_error: float | None = None
    epsilon: float | None = None
    strays: list[str] = field(default_factory=list)
    used: int | None = None
    notes: list[str] = field(default_factory=list)
    validation_bytes: int = 0

    def lose(self, label: str, why: object) -> None:
        """Note that a site's reply did not arrive."""
        self.lost[label] = shown(why)

    def reject(self, label: str, why: object) -> None:
        """Note that a site's reply cannot be used."""
        self.rejected[label] = shown(why)

    def reply(self, site: int, seconds: float, size: int) -> None:
        """Note what a device sent, and how long it computed."""
        self.up_bytes[site] = self.up_bytes.get(site, 0) + size
        self.compute_seconds[site] = self.compute_seconds.get(site, 0.0) + seconds

    @property
    def bytes(self) -> int:
        """Up and down, all devices."""
        return sum(self.down_bytes.values()) + sum(self.up_bytes.values())

    @property
    def mean_figure(self) -> float | None:
        """Mean over sites of the figure."""
        return float(np.mean(list(self.figures.values()))) if self.figures else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of :meth:`from_dict`."""
        return {key: value for key, value in asdict(self).items() if value not in ({}, [], None)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RoundRecord:
        """See :meth:`to_dict`; JSON made texts of the sites' numbers."""
        numbered = ("down_bytes", "up_bytes", "bandwidth", "seconds", "joules", "compute_seconds")
        values: dict[str, Any] = dict(data)
        if "look_bytes" in values:  # the name that older states have for it
            values["validation_bytes"] = values.pop("look_bytes")
        for name in numbered:
            values[name] = {int(site): value for site, value in data.get(name, {}).items()}
        return cls(**values)
