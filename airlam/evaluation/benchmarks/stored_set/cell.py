"""Cells whose links come from a store: one for each speed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.csi import mean_power, receive
from airlam.data import CSIStore
from airlam.errors import StoreError
from airlam.evaluation.benchmarks.channel_prediction.config import OWN
from airlam.evaluation.benchmarks.stored_set.config import StoredSetArguments
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.conventions import gains_of

GRID = ("carrier_frequency", "slot_duration", "subcarrier_spacing")


@dataclass(frozen=True)
class StoredCell(Cell):
    """A cell of stored links.

    Attributes:
        store: the file. test, tune: its links that are judged, and that classical methods are tuned on.
        same_drop: test and tuning links are of one drop, because the store holds no other at this speed.
        shared_noise: histories get one noise level for all links, as their gains leave them, instead of each its own.
    """

    store: str = ""
    test: tuple[int, ...] = ()
    tune: tuple[int, ...] = ()
    shared_noise: bool = False
    same_drop: bool = False

    def links(self, purpose: str, num_links: int) -> LinkBatch:
        """The links of ``purpose``, ``"test"`` or ``"tune"``."""
        chosen = list(self.test if purpose == "test" else self.tune)
        with CSIStore(self.store) as store:
            truth: dict[str, Any] = {name: values[chosen] for name, values in store.truth.items()}
            h = store.read(chosen, self.history + self.num_future)
            truth |= {name: float(self.recipe[name]) for name in GRID}
            return LinkBatch(h=h, **truth, port_shape=store.port_shape, recipe=self.recipe)

    def observe(self, h: Tensor, purpose: str) -> tuple[Tensor, Tensor | None]:
        """The measured history."""
        generator = torch.Generator().manual_seed(self.stream(purpose + " noise"))
        snr_db: float | Tensor = self.csi_snr_db
        if self.shared_noise:
            with CSIStore(self.store) as store:
                chosen = list(self.test if purpose.startswith("test") else self.tune)
                gain_db = gains_of(self.recipe, store.truth["gain_db"][chosen].double())
            power = mean_power(h[:, : self.history]).double() * 10 ** (gain_db / 10)
            snr_db = (self.csi_snr_db + 10 * torch.log10(power / power.mean())).float()  # of weak links lower
        return receive(
            h[:, : self.history],
            snr_db,
            None,
            generator,
            slot_duration=self.recipe["slot_duration"],
            subcarrier_spacing=self.recipe["subcarrier_spacing"],
        )


def cells_of(arguments: StoredSetArguments, methods: list[str], path: str | Path) -> list[StoredCell]:
    """A cell for each speed of the test links of the store ``path``, or one for all.

    Raises:
        StoreError: no test links, or one alone. RecipeError: links that are too short.
    """
    with CSIStore(path) as store:
        recipe = dict(store.recipe["channel"])
        recipe |= {name: store.attrs[name] for name in GRID if name in store.attrs}
        recipe["store"] = store.attrs["recipe_hash"]  # another seed or split: other links, so other cells
        setting = arguments.setting(store.h.shape[1])
        spans = {name: torch.arange(*ends) for name, ends in store.splits.items()}
        speed, drop = store.truth["speed"], store.truth["drop"]
        if not len(spans["test"]):
            raise StoreError(f"{store.path} holds no test links; import the file again with --split 0,0,1")
        cells = []
        for speed_kmh, test in _by_speed(spans["test"], speed, arguments.max_cells):
            tune = next((_close(spans[name], speed, speed_kmh) for name in ("val", "train") if len(spans[name])), None)
            if tune is None:
                test, tune = _set_aside(test, drop, arguments.num_tune)
            if not len(test):
                raise StoreError(f"{store.path} holds one link at {speed_kmh} km/h, none to tune on; import more links")
            cells.append(
                StoredCell(
                    group="cell",
                    data=store.path.stem,
                    recipe=recipe,
                    speed_kmh=speed_kmh,
                    csi_snr_db=setting.csi_snr_db,
                    num_links=min(len(test), arguments.num_links),
                    num_tune=min(len(tune), arguments.num_tune),
                    history=setting.history,
                    horizon=setting.horizon,
                    num_future=setting.horizon,
                    methods=tuple(methods),
                    seed=arguments.seed,
                    headline=True,
                    convention="" if arguments.convention == OWN else arguments.convention,
                    store=str(path),
                    test=tuple(test[: arguments.num_links].tolist()),
                    tune=tuple(tune[: arguments.num_tune].tolist()),
                    shared_noise=setting.shared_noise,
                    same_drop=bool(torch.isin(drop[test], drop[tune]).any()),
                )
            )
    return cells


def _by_speed(links: Tensor, speed: Tensor, most: int) -> Iterator[tuple[float | None, Tensor]]:
    """Speed [km/h] and links; one group without a speed where they are unknown or more than ``most``."""
    kmh = (3.6 * speed[links].double()).round(decimals=2)
    found = kmh.unique().tolist()
    if len(found) > most or any(map(math.isnan, found)):
        yield None, links
        return
    for value in found:
        yield value, links[kmh == value]


def _close(links: Tensor, speed: Tensor, speed_kmh: float | None) -> Tensor:
    """Links, those nearest in speed first."""
    if speed_kmh is None:
        return links
    return links[(speed[links].double() - speed_kmh / 3.6).abs().argsort(stable=True)]


def _set_aside(test: Tensor, drop: Tensor, num_tune: int) -> tuple[Tensor, Tensor]:
    """Test links, and links for tuning, at most half: of other drops, where there are any."""
    few = max(1, min(len(test) // 2, num_tune))
    drops = drop[test].unique()
    if len(drops) == 1:
        return test[few:], test[:few]
    sizes = torch.stack([(drop[test] == value).sum() for value in drops]).cumsum(0)
    chosen = drops[: max(1, int((sizes <= few).sum()))]
    aside = torch.isin(drop[test], chosen)
    return test[~aside], test[aside]
