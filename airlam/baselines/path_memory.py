"""Paths that were found before: the search takes ten times as long as all that follows it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from airlam.baselines.path_fit import PathFit, Search
from airlam.baselines.path_series import Paths, strongest_first
from airlam.io import replacing

CHUNK = 16  # links at a time: a spectrum of 200,000 bins each
MOST = 256  # searches that are remembered without a folder: some 20 MB

Found = tuple[Tensor, Tensor, Tensor]  # shifts [link, path, axis], which paths there are [link, path], noise [link]


class PathMemory:
    """Searches for paths by their content: the same history searched in the same way is looked up.

    Args:
        folder: where searches are kept as safetensors files; ``None``: in memory, the latest ones.

    Example:
        >>> x = torch.randn(1, 1, 8, 12, 1, 1, dtype=torch.complex64)
        >>> memory = PathMemory()
        >>> memory.search(x, Search(most=2))[0] is memory.search(x, Search(most=2))[0]
        True
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.latest: OrderedDict[str, Found] = OrderedDict()

    def search(self, x: Tensor, search: Search, observed: Tensor | None = None) -> Found:
        """Paths of ``x``, see :class:`airlam.baselines.path_fit.PathFit`, strongest first."""
        key = hashlib.sha256(repr((search, tuple(x.shape))).encode())
        key.update(torch.view_as_real(x).numpy().tobytes())
        if observed is not None:
            key.update(observed.numpy().tobytes())
        asked = key.hexdigest()[:32], x, search, observed
        return self._in_memory(*asked) if self.folder is None else self._in_folder(*asked)

    def _in_memory(self, name: str, x: Tensor, search: Search, observed: Tensor | None) -> Found:
        if name not in self.latest:
            self.latest[name] = find(x, search, observed)
        self.latest.move_to_end(name)
        if len(self.latest) > MOST:
            self.latest.popitem(last=False)
        return self.latest[name]

    def _in_folder(self, name: str, x: Tensor, search: Search, observed: Tensor | None) -> Found:
        assert self.folder is not None
        path = self.folder / f"{name}.safetensors"
        if os.path.isfile(path):
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("shift"), file.get_tensor("live"), file.get_tensor("noise")
        shift, live, noise = find(x, search, observed)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            save_file({"shift": shift, "live": live, "noise": noise}, work)
        return shift, live, noise


def find(x: Tensor, search: Search, observed: Tensor | None = None) -> Found:
    """Paths of ``x``, strongest first, a few links at a time."""
    masks = [None] * len(x) if observed is None else observed.split(CHUNK)
    parts = [strongest_first(PathFit.of(part, search, mask)) for part, mask in zip(x.split(CHUNK), masks, strict=False)]
    most = max(live.shape[1] for _, live, _ in parts)
    shift = [torch.nn.functional.pad(shift, (0, 0, 0, most - shift.shape[1])) for shift, _, _ in parts]
    live = [torch.nn.functional.pad(live, (0, most - live.shape[1])) for _, live, _ in parts]
    return torch.cat(shift), torch.cat(live), torch.cat([noise for _, _, noise in parts])


_remembered = PathMemory()
_on = False


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Inside, :func:`recall` finds searches again that were done inside before: while ``paths`` is tuned, and where
    several methods rest on it. Not to be used around what is timed."""
    global _on
    before, _on = _on, True
    try:
        yield
    finally:
        _on = before


def recall(x: Tensor, search: Search, observed: Tensor | None = None) -> Paths:
    """Paths of ``x``; inside :func:`remembered` the search is looked up."""
    found = _remembered.search(x, search, observed) if _on else find(x, search, observed)
    return Paths.at(x, *found, observed=observed)
