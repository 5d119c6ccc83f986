"""Arguments of the benchmark of services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, not_empty
from airlam.recipes import check_choice, check_number

PARTS = ("cold", "path", "batching", "load", "shared", "sessions", "soak")


@dataclass(frozen=True)
class Load:
    """What is asked.

    Attributes:
        model: of the server. beside: further ones that are put under the open loop.
        links: different histories that requests take in turn. channel: recipe they come from.
        history, num_future: slots. deadline_ms: within which an answer is on time.
        share: arrival rates of the open loop, as shares of the rate at saturation.
        seconds: of each rate. clients: that wait for each other's answers while saturation is measured.
        calls: of a comparison one by one.
    """

    model: str = "airlam-tiny"
    beside: Sequence[str] = ()
    links: int = 16
    channel: str = "uma_nlos"
    history: int = 16
    num_future: int = 4
    deadline_ms: float = 100.0
    share: Sequence[float] = (0.25, 0.5, 0.75, 0.9)
    seconds: float = 8.0
    clients: int = 24
    calls: int = 200

    def __post_init__(self) -> None:
        for name in ("links", "history", "num_future", "clients", "calls"):
            at_least(f"load.{name}", getattr(self, name), 1)
        not_empty("load.share", self.share)
        for share in self.share:
            check_number("load.share", share, 0.01, 2)
        check_number("load.seconds", self.seconds, 0.1, 3600)
        check_number("load.deadline_ms", self.deadline_ms, 1, 1e6)


@dataclass(frozen=True)
class ServingArguments(Arguments):
    """Arguments of the benchmark of services.

    Attributes:
        server: recipe of the server.
        changes: to that recipe.
        load: what is asked.
        widths: of backbones for which a shared pass is compared with two passes; 0: that of the model.
        users: sessions that live at once.
        soak_s: seconds at saturation, for the memory.
        parts: what is measured; finished parts are kept in the folder of the report.
        seed: of arrivals and channels.
        threads: CPU threads of the model in process.
        quick: a small version, for tests.
        title: of the report.
    """

    server: str = "tasks/serving/default.yaml"
    changes: Mapping[str, Any] = field(default_factory=dict)
    load: Load = Load()
    widths: Sequence[int] = (0, 256, 512)
    users: int = 1000
    soak_s: float = 600.0
    parts: Sequence[str] = PARTS
    seed: int = 1
    threads: int = 1
    quick: bool = False
    title: str = "Services under load"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_empty("parts", self.parts)
        for part in self.parts:
            check_choice("parts", part, PARTS)
        at_least("users", self.users, 1)
        check_number("soak_s", self.soak_s, 1, 1e6)
        if not isinstance(self.changes, Mapping):
            raise RecipeError(f"changes is {self.changes!r}, but must be a mapping of fields of the server's recipe")

    def reduced(self) -> dict[str, Any]:
        """Sections for a quick run: seconds of load, few users."""
        load = replace(self.load, links=2, share=(0.5,), seconds=0.5, clients=2, calls=5)
        return dict(load=load, widths=(0,), users=4, soak_s=1.0)
