"""A run between two rounds, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.record import RoundRecord
from airlam.errors import StoreError
from airlam.io import replacing

STATE = "state.safetensors"
FAILURE = "failure.txt"
Watch = Callable[[RoundRecord], None]


@dataclass
class State:
    """A run between two rounds.

    Attributes:
        arrays: the server's weights. memory: what the strategy remembers from round to round.
        rounds: the record of every round; that of number 0 is the validation before the first.
    """

    arrays: Arrays
    memory: Arrays = field(default_factory=dict)
    rounds: list[RoundRecord] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Rounds done."""
        return self.rounds[-1].number if self.rounds else 0

    def save(self, folder: Path, federation: Federation) -> None:
        """Write the state into one file, atomically: a killed run leaves the round before or this one, whole."""
        tensors = {f"weight:{k}": v for k, v in self.arrays.items()} | {
            f"memory:{k}": v for k, v in self.memory.items()
        }
        about = {"federation": federation.to_json(), "rounds": json.dumps([r.to_dict() for r in self.rounds])}
        with replacing(folder / STATE) as work:
            save_file(tensors, work, metadata=about)

    @classmethod
    def load(cls, folder: Path, federation: Federation) -> State:
        """The state of this very run.

        Raises:
            StoreError: of another run (the first argument that differs is named), of something else, or damaged.
        """
        path = folder / STATE
        try:
            with safe_open(path, "np") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if not {"federation", "rounds"} <= set(about):
                raise StoreError(f"{path} is no state of a federated run; use another folder with --out")
            theirs = {"wire": "float32"} | dict(json.loads(about["federation"]))  # states older than the argument
            rounds = list(json.loads(about["rounds"]))
            records = [RoundRecord.from_dict(r) for r in rounds]
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"{path} is damaged ({str(error).splitlines()[0]}); start again with --overwrite"
            ) from None
        mine = json.loads(federation.to_json())
        changed = [k for k in mine if mine[k] != theirs.get(k) and k not in ("threads", "rounds")]
        if list(mine["sites"]) != list(theirs.get("sites", {})):  # their order numbers them
            changed.append("sites")
        if changed:
            name = changed[0]
            raise StoreError(
                f"{path} is of another run: {name} was {theirs.get(name)!r}, now it is {mine[name]!r}; use another "
                "folder with --out, or --overwrite"
            )
        return cls(
            {k.removeprefix("weight:"): v for k, v in tensors.items() if k.startswith("weight:")},
            {k.removeprefix("memory:"): v for k, v in tensors.items() if k.startswith("memory:")},
            records,
        )


def claim(folder: Path | None, *, resume: bool) -> None:
    """Make the folder of a run; one that holds another run is refused."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and (folder / STATE).exists():
        raise StoreError(f"{folder} holds a run already; resume it, or take another folder")
