"""What the first epoch computed of each link, on the disk of the rank that trains with it.

One file for each batch and rank: the tokens' statistics that the loss needs, the truth, and the network's input: hidden
states of the backbone (parallel adapter) or features (LoRA). ``cache.json`` says what model and data they are of.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from airlam.errors import StoreError
from airlam.io import read_json, replacing, write_json
from airlam.models import Tokens
from airlam.tasks.objectives import Target

FACTS = "cache.json"
_NAME = re.compile(r"(\d{6})_(\d+)_(\d+)\.safetensors")
REAL = ("features", "hidden", "log_periodogram", "noise", "scale")  # of tokens
COMPLEX = ("series", "start")


class ActivationCache:
    """Args:
        folder: of the files. facts: plain data that decides every number in them.

    Raises:
        StoreError: the folder holds numbers of something else.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        if (folder / FACTS).is_file():
            there = read_json(folder / FACTS)
            for name, value in facts.items():
                if there.get(name) != value:
                    raise StoreError(
                        f"{folder} holds activations of another {name} ({there.get(name)}, here {value}); name another "
                        "adapter.cache_folder, or delete this one"
                    )
        elif any(folder.glob("*.safetensors")):
            raise StoreError(f"{folder} holds activations, but no {FACTS} that says of what; delete it")
        else:
            write_json(folder / FACTS, facts)

    def path(self, place: int, links: tuple[int, int]) -> Path:
        """Of the links ``first <= n < stop`` of batch ``place``."""
        return self.folder / f"{place:06d}_{links[0]}_{links[1]}.safetensors"

    def places(self, links: tuple[int, int]) -> set[int]:
        """The batches of which the links ``first <= n < stop`` are here, in whole files."""
        found = set()
        for path in self.folder.glob("*.safetensors"):
            name = _NAME.fullmatch(path.name)
            if name and (int(name[2]), int(name[3])) == links:
                try:
                    with safe_open(path, framework="pt") as file:
                        file.keys()
                except (SafetensorError, OSError):
                    continue  # cut short: it is computed again
                found.add(int(name[1]))
        return found

    def write(self, place: int, links: tuple[int, int], target: Target) -> int:
        """Keep some links of a batch; where hidden states are given, features are not needed. Returns bytes."""
        tokens, named = target.tokens, {}
        for name in (*REAL, *COMPLEX):
            value = getattr(tokens, name)
            if value is not None and not (name == "features" and tokens.hidden is not None):
                named[name] = torch.view_as_real(value) if name in COMPLEX else value
        named |= {"kept": torch.view_as_real(target.kept), "lost": target.lost, "total": target.total}
        facts = {"singles": tokens.singles, "group_size": tokens.group_size, "skip": target.skip}
        with replacing(self.path(place, links)) as work:
            stored = {name: value.detach().cpu().contiguous() for name, value in named.items()}
            save_file(stored, work, metadata={name: str(value) for name, value in facts.items()})
        return self.path(place, links).stat().st_size

    def read(self, place: int, links: tuple[int, int], device: torch.device | str = "cpu") -> Target:
        """The links as they were written; what only leads back to CSI is not there.

        Raises:
            StoreError: they are not there, or damaged.
        """
        path = self.path(place, links)
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                facts = {name: int(value) for name, value in file.metadata().items()}
        except (SafetensorError, OSError) as error:
            raise StoreError(f"{path} is missing or damaged ({error}); delete it, it is computed again") from error
        for name in (*COMPLEX, "kept"):
            if name in named:
                named[name] = torch.view_as_complex(named[name])
        nothing = cast(Tensor, None)
        tokens = Tokens(
            features=named.get("features", named["log_periodogram"]),  # as many tokens
            log_periodogram=named["log_periodogram"],
            noise=named["noise"],
            series=named["series"],
            scale=named["scale"],
            start=named.get("start"),
            taps=None,
            singles=facts["singles"],
            group_size=facts["group_size"],
            basis=cast(Any, None),
            index=nothing,
            power=nothing,
            hidden=named.get("hidden"),
        )
        return Target(tokens, named["kept"], named["lost"], named["total"], facts["skip"])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
