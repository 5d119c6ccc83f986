"""Data sets of CSI: recipes, generation, the HDF5 store, and what training reads.

Names come in on first use, so that importing this room costs nothing:

- :class:`~airlam.data.recipe.DatasetRecipe`: what a ``datasets/*.yaml`` says, checked.
- :func:`~airlam.data.generation.generate`: writes a store; parallel, resumable, bit-identical.
- :class:`~airlam.data.store.CSIStore`: reads one.
- :class:`~airlam.data.datamodule.CSIDataModule`: train, validation and test loaders for Lightning.
- :class:`~airlam.data.site_datamodule.SiteDataModule`: the same for users of one site with several stations.
- :class:`~airlam.data.city_regions.CityDataModule`: regions of ray-traced cities, to learn radio maps from.
- :class:`~airlam.data.batches.OnTheFly`: fresh links for every batch, no file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airlam.data.batches import OnTheFly
    from airlam.data.city_regions import CityDataModule
    from airlam.data.datamodule import CSIDataModule
    from airlam.data.generation import generate
    from airlam.data.recipe import DatasetRecipe
    from airlam.data.site_datamodule import SiteDataModule
    from airlam.data.store import CSIStore

_HOME = {
    "CSIDataModule": "airlam.data.datamodule",
    "CSIStore": "airlam.data.store",
    "CityDataModule": "airlam.data.city_regions",
    "DatasetRecipe": "airlam.data.recipe",
    "OnTheFly": "airlam.data.batches",
    "SiteDataModule": "airlam.data.site_datamodule",
    "generate": "airlam.data.generation",
}
__all__ = ["CSIDataModule", "CSIStore", "CityDataModule", "DatasetRecipe", "OnTheFly", "SiteDataModule", "generate"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'airlam.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
