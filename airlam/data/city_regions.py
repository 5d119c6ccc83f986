"""The DataModule of maps: regions of ray-traced cities, each with stations, users, and a height map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from airlam.channels.city import RECIPE, City
from airlam.csi import HeightMap, SiteMap
from airlam.data.batches import TrainLoader
from airlam.data.resuming import ResumingDataModule
from airlam.data.site import draw_users
from airlam.errors import RecipeError, StoreError
from airlam.io import locked, recipe_hash, replacing
from airlam.recipes import check_number
from airlam.seeds import noise_seed

_STEP = 2.0  # m, of the height maps


@dataclass
class CityRegion:
    """Users of a region: the power that truly reaches them, in any unit, and what is around.

    Attributes:
        map: powers at the users' places. stations: ``[station, 4]``, x, y, z [m], bearing [degrees].
        heights: roofs and ground.
    """

    map: SiteMap
    stations: Tensor
    heights: HeightMap


def make_region(city: City, seed: int, users: int, stations: int) -> dict[str, Tensor]:
    """The tensors of a region's file; places and heights in the scene's coordinates.

    Raises:
        RecipeError: rays reach too few places.
    """
    region = city.region(seed, stations)
    csi = draw_users(region.recipe, users, seed)
    assert csi.position is not None
    true = SiteMap.of(csi, noise=False)
    mean = csi.h.abs().square().double().mean((2, 3))
    return {
        "position": csi.position.float(),
        "stations": csi.stations.float(),
        "power": (10 * mean.clamp_min(1e-30).log10()).float(),
        "share": true.profile.half(),
        "height": region.heights.height.contiguous(),
        "corner": torch.tensor(region.heights.corner),
    }


def read_region(path: Path) -> CityRegion:
    """A region from its file.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        found = load_file(path)
        power = 10 ** (found["power"].double() / 10)
        beams = found["share"].shape[-1]
        tones = RECIPE["num_subcarriers"]
        taps = (found["share"].double() * (power / power.amax())[..., None, None] * tones * beams).float()
        site = SiteMap(found["position"], taps, tones, RECIPE["subcarrier_spacing"])
        corner = (float(found["corner"][0]), float(found["corner"][1]))
        return CityRegion(site, found["stations"], HeightMap(found["height"], corner, _STEP))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StoreError(f"{path} holds no region of a city ({error}); delete it, and it is made again") from error


class CityDataModule(ResumingDataModule):
    """Regions of cities for :class:`airlam.tasks.RadioMapping`; whole cities, or others of their regions, judge.

    Regions are made once (about a minute each on a core; ray tracing must work, see ``airlam doctor``) and kept as
    files. A training batch is a list of :class:`CityRegion`; validation and test have one region a batch.

    Args:
        train, val, test: city -> how many of its regions. Splits that share a city get different regions of it.
        folder: where regions are kept.
        users, stations: of each region.
        regions_per_batch: drawn anew for each training batch.
        batches_per_epoch: length of an epoch.
        seed: of batches.

    Raises:
        RecipeError: a value is out of bounds.

    Example:
        >>> CityDataModule({"florence": 2}, {"munich": 1}, folder="maps").files("val")
        [PosixPath('maps/munich-0_e8ea.safetensors')]
    """

    def __init__(
        self,
        train: dict[str, int],
        val: dict[str, int] | None = None,
        test: dict[str, int] | None = None,
        folder: str = "data/city_regions",
        users: int = 512,
        stations: int = 8,
        regions_per_batch: int = 2,
        batches_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, low in (
            ("users", users, 32),
            ("stations", stations, 1),
            ("regions_per_batch", regions_per_batch, 1),
            ("batches_per_epoch", batches_per_epoch, 1),
            ("seed", seed, 0),
        ):
            check_number(name, value, low, math.inf, integer=True)
        self.splits = {"train": train, "val": val or {}, "test": test or {}}
        for split, cities in self.splits.items():
            for city, count in cities.items():
                check_number(f"{split}.{city}", count, 1, 1000, integer=True)
        if not train:
            raise RecipeError("train is empty: name at least one city, like {florence: 24}")
        self.folder, self.users, self.stations = Path(folder), users, stations
        self.regions_per_batch, self.batches_per_epoch, self.seed = regions_per_batch, batches_per_epoch, seed
        self._regions: dict[str, list[CityRegion]] = {}

    def wanted(self, split: str) -> list[tuple[str, int]]:
        """City and seed of each region of a split."""
        order = list(self.splits)
        before = order[: order.index(split)]
        out = []
        for city, count in self.splits[split].items():
            first = sum(self.splits[other].get(city, 0) for other in before)
            out += [(city, first + number) for number in range(count)]
        return out

    def files(self, split: str) -> list[Path]:
        """Where the regions of a split lie."""
        key = recipe_hash([RECIPE, self.users, self.stations], digits=4)
        return [self.folder / f"{city}-{seed}_{key}.safetensors" for city, seed in self.wanted(split)]

    def prepare_data(self) -> None:
        """Make what is not there yet; an interrupted run goes on with the next region."""
        for split in self.splits:
            city: City | None = None
            for (scene, seed), path in zip(self.wanted(split), self.files(split), strict=True):
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with locked(path):
                    city = city if city is not None and city.recipe["scene"] == scene else City(scene)
                    with replacing(path) as temporary:
                        save_file(make_region(city, seed, self.users, self.stations), temporary)

    def setup(self, stage: str | None = None) -> None:
        """Reads all regions, once."""
        if not self._regions:
            self._regions = {split: [read_region(path) for path in self.files(split)] for split in self.splits}

    def train_dataloader(self) -> TrainLoader:
        """Random regions without end, fixed by the seed."""
        self.setup()
        source = _RandomRegions(self._regions["train"], self.regions_per_batch, self.seed)
        return self.resumed(source, self.batches_per_epoch)

    def val_dataloader(self) -> DataLoader:
        return self._whole("val")

    def test_dataloader(self) -> DataLoader:
        return self._whole("test")

    def _whole(self, split: str) -> DataLoader:
        self.setup()
        return DataLoader(self._regions[split], batch_size=1, collate_fn=list)  # type: ignore[arg-type]


class _RandomRegions:
    """Batch ``number`` holds random regions; it is always the same."""

    def __init__(self, regions: list[CityRegion], count: int, seed: int) -> None:
        self.regions, self.count, self.seed = regions, count, seed

    def batch(self, number: int) -> list[CityRegion]:
        generator = torch.Generator().manual_seed(noise_seed(self.seed, 3, number))
        return [self.regions[int(i)] for i in torch.randint(len(self.regions), (self.count,), generator=generator)]
