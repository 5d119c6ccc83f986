"""What a ``datasets/*.yaml`` says: checked, resolved, hashed, and cut into blocks with a seed each.

Links are made in *blocks*. A block belongs to one split and is generated from its own seed, so that blocks can be made
in any order, by any number of workers, before and after an interruption, with the same result. Sionna's draws depend
on how many links one call makes: the size of a block is therefore part of the recipe.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from airlam.csi import Impairment
from airlam.errors import RecipeError
from airlam.io import recipe_hash
from airlam.recipes import as_number, check_number, check_range, find_recipe, nearest, read_yaml
from airlam.seeds import mix32, noise_seed

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")


def load_channel(recipe: str | Path | dict):
    """:func:`airlam.channels.load_channel`, imported late."""
    from airlam.channels import load_channel

    return load_channel(recipe)


def cache_folder() -> Path:
    """Where stores without a name of their own are kept: ``$AIRLAM_CACHE``, or ``airlam`` in the user's caches."""
    if os.environ.get("AIRLAM_CACHE"):
        return Path(os.environ["AIRLAM_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airlam"


@dataclass(frozen=True)
class Block:
    """Consecutive links of one split that come from one call of the channel model.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        start: index of its first link in the whole data set.
        count: number of links.
        seed: seed of the channel model.
    """

    split: str
    start: int
    count: int
    seed: int


def block_seed(seed: int, split: str, number: int) -> int:
    """Seed of block ``number`` of a split.

    Distinct for all blocks of all splits of one data set, for certain (a bijection, not a hash): no two splits can
    share a draw. Below 2^32, because torch's CPU generator uses only that many bits, and without order, because a
    channel model may use ``seed + 1`` inside.
    """
    if number >= 2**30:
        raise RecipeError(f"block number {number} is out of bounds, at most 2^30 - 1: use another seed")
    return mix32(4 * number + SPLITS.index(split) + noise_seed(seed))


def check_impairments(given: Any) -> dict[str, float | list[float]]:
    """The ``impairments`` of a data set with numbers as numbers.

    Raises:
        RecipeError: an unknown key, or a value out of bounds.
    """
    if not isinstance(given, dict):
        raise RecipeError(f"impairments is {given!r}, but must be a mapping, like {{phase_std: [0.01, 0.3]}}")
    allowed, made = ("probability", *Impairment._fields), {}
    for name, value in given.items():
        if name not in allowed:
            hint = nearest(str(name), allowed) or f"; keys: {', '.join(allowed)}"
            raise RecipeError(f"impairments has no key {name!r}{hint}")
        key = f"impairments.{name}"
        if name == "probability":
            made[name] = check_number(key, value, 0, 1)
        else:
            made[name] = check_range(key, value, 0, {"missing": 1, "bits": 24}.get(name, 1e6))
    return made


@dataclass(frozen=True)
class DatasetRecipe:
    """A data set: which links, how many in each split, and how training sees them.

    The fields are those of :class:`~airlam.data.datamodule.CSIDataModule`, which documents them.

    Raises:
        RecipeError: a value is out of bounds.
    """

    channel: str | dict[str, Any] | None = None
    channel_overrides: dict[str, Any] | None = None
    num_train: int | None = None
    num_val: int = 512
    num_test: int = 1024
    history: int = 16
    horizon: int = 4
    csi_snr_db: float | list[float] = 20.0
    impairments: dict[str, float | list[float]] | None = None
    batch_size: int = 32
    batches_per_epoch: int = 500
    seed: int = 0
    store: str | None = None
    num_workers: int = 0
    block_size: int = 64

    def __post_init__(self) -> None:
        if self.channel is None and self.store is None:
            raise RecipeError(
                "channel is missing: name a recipe of channels/ (for example channel: uma_nlos) or a store"
            )
        if self.channel_overrides is not None and not isinstance(self.channel_overrides, dict):
            raise RecipeError(f"channel_overrides is {self.channel_overrides!r}, but must be keys of a channel recipe")
        for name, low in (
            ("history", 1),
            ("horizon", 1),
            ("batch_size", 1),
            ("batches_per_epoch", 1),
            ("block_size", 1),
            ("num_train", 0),
            ("num_val", 0),
            ("num_test", 0),
            ("num_workers", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if name != "num_train" or value is not None:
                object.__setattr__(self, name, check_number(name, value, low, math.inf, integer=True))
        snr_db = as_number(self.csi_snr_db)
        if snr_db != math.inf:  # infinity: without noise
            snr_db = check_range("csi_snr_db", snr_db, -40, 100, unit="dB")
        object.__setattr__(self, "csi_snr_db", snr_db)
        if self.impairments is not None:
            object.__setattr__(self, "impairments", check_impairments(self.impairments))

    @property
    def num_slots(self) -> int:
        """Slots of a link: history and horizon come from one realisation."""
        return self.history + self.horizon

    @cached_property
    def channel_model(self):
        """The channel model, with ``channel_overrides`` applied to its recipe."""
        if self.channel is None:
            raise RecipeError("this data set names no channel, only a store")
        model = load_channel(self.channel)
        return load_channel({**model.recipe, **self.channel_overrides}) if self.channel_overrides else model

    @property
    def stackable(self) -> bool:
        """Whether all links have one shape, band and slot, so that they fit into one store."""
        return bool(getattr(self.channel_model, "stackable", True))

    @property
    def num_links(self) -> dict[str, int]:
        """Links of each split that a store holds; no training links where they are made on the fly."""
        return {"train": self.num_train or 0, "val": self.num_val, "test": self.num_test}

    @cached_property
    def content(self) -> dict[str, Any]:
        """Plain data that decides every bit of the links: channel, slots, splits, seed, block size."""
        return {
            "format": FORMAT_VERSION,
            "channel": json.loads(json.dumps(self.channel_model.recipe)),
            "num_slots": self.num_slots,
            "num_links": self.num_links,
            "seed": self.seed,
            "block_size": self.block_size,
        }

    @property
    def store_path(self) -> Path:
        """Where the data module looks: ``store``, or the place of this recipe in the cache."""
        if self.store:
            return Path(self.store).expanduser()
        return cache_folder() / "datasets" / f"{self.hash}.h5"

    @property
    def hash(self) -> str:
        """Hash of :attr:`content`: what a store is known by."""
        return content_hash(self.content)


def content_hash(content: dict[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of plain data."""
    return recipe_hash(content, digits=16)


def blocks_of(content: dict[str, Any]) -> list[Block]:
    """The blocks of a data set in the order of its links: train, then val, then test.

    A block holds whole drops: its size is rounded up to a multiple of ``links_per_drop``.
    """
    per_drop = int(content["channel"].get("links_per_drop", 1))
    size = math.ceil(content["block_size"] / per_drop) * per_drop
    blocks, start = [], 0
    for split in SPLITS:
        total = content["num_links"][split]
        for number in range(math.ceil(total / size)):
            count = min(size, total - number * size)
            blocks.append(Block(split, start, count, block_seed(content["seed"], split, number)))
            start += count
    return blocks


def read_dataset_recipe(recipe: str | Path, **changes: Any) -> DatasetRecipe:
    """A data set's recipe from a name or path, with some fields changed.

    Raises:
        RecipeError: no such recipe, not YAML, an unknown key (with the nearest valid one), or a value out of bounds.
    """
    path = find_recipe(recipe, kind="datasets")
    return _from_data({**read_yaml(path), **changes}, str(path))


def load_dataset_recipe(recipe: str | Path | dict | DatasetRecipe) -> DatasetRecipe:
    """A data set's recipe from a name (``datasets/tiny.yaml``, ``tiny``), a path, or its plain data.

    Raises:
        RecipeError: as :func:`read_dataset_recipe`.

    Example:
        >>> load_dataset_recipe({"channel": "uma_nlos", "num_train": 100}).num_links["train"]
        100
    """
    if isinstance(recipe, DatasetRecipe):
        return recipe
    return _from_data(recipe, "the recipe") if isinstance(recipe, dict) else read_dataset_recipe(recipe)


def _from_data(data: dict[str, Any], where: str) -> DatasetRecipe:
    valid = [f.name for f in fields(DatasetRecipe)]
    if "class_path" in data:
        raise RecipeError(f"{where} is of {data['class_path']}, which makes its own users; 'airlam fit' alone reads it")
    for key in data:
        if key not in valid:
            hint = nearest(str(key), valid) or f"; valid: {', '.join(valid)}"
            raise RecipeError(f"unknown key {key!r} in {where}{hint}")
    return DatasetRecipe(**data)
