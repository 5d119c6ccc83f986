"""Regions of cities: which ones a split gets, their files, and (where rays can be traced) what they hold."""

from __future__ import annotations

import pytest
import torch

from airlam.channels.ray_tracing import rt_available
from airlam.data import CityDataModule
from airlam.data.city_regions import read_region
from airlam.errors import RecipeError, StoreError


def test_splits_share_no_region_and_batches_repeat(tmp_path, write_region):
    data = CityDataModule(
        {"florence": 3, "etoile": 1}, {"florence": 2}, {"florence": 1, "munich": 1}, folder=str(tmp_path), users=40
    )
    assert data.wanted("train") == [("florence", 0), ("florence", 1), ("florence", 2), ("etoile", 0)]
    assert data.wanted("val") == [("florence", 3), ("florence", 4)]
    assert data.wanted("test") == [("florence", 5), ("munich", 0)]
    for split in data.splits:
        for path in data.files(split):
            write_region(path)
    data.prepare_data()  # everything is there: no ray is traced
    first = [batch for batch, _ in zip(data.train_dataloader(), range(3), strict=False)]
    again = [batch for batch, _ in zip(data.train_dataloader(), range(3), strict=False)]
    assert all(len(batch) == 2 for batch in first)
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(x.map.taps, y.map.taps) for x, y in zip(a, b, strict=True))
    assert [len(batch) for batch in data.test_dataloader()] == [1, 1]
    other = CityDataModule({"florence": 3}, folder=str(tmp_path), users=41)
    assert other.files("train")[0] != data.files("train")[0]


def test_powers_are_those_of_the_file(tmp_path, write_region):
    write_region(tmp_path / "a.safetensors")
    region = read_region(tmp_path / "a.safetensors")
    power = region.map.over_noise(60.0).power_db
    assert float(power.amax(1).median()) == pytest.approx(60, abs=0.01)
    assert float(power.max() - power.min()) < 20.1 and region.heights.at(region.map.place[:, :2]).max() == 0


def test_damaged_files_and_bad_arguments_are_told(tmp_path, write_region):
    path = tmp_path / "a.safetensors"
    write_region(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StoreError, match="a.safetensors holds no region of a city .*; delete it, and it is made again"):
        read_region(path)
    with pytest.raises(RecipeError, match="train is empty: name at least one city"):
        CityDataModule({})
    with pytest.raises(RecipeError, match="users is 3"):
        CityDataModule({"florence": 1}, users=3)
    with pytest.raises(RecipeError, match="train.florence is 0"):
        CityDataModule({"florence": 0})


@pytest.mark.slow
@pytest.mark.skipif(not rt_available(), reason="ray tracing cannot run here")
def test_a_region_is_made_once_and_is_the_same_again(tmp_path):
    first, second = (
        CityDataModule({"florence": 1}, folder=str(tmp_path / name), users=32, stations=2) for name in ("a", "b")
    )
    first.prepare_data()
    (path,) = first.files("train")
    before = path.stat().st_mtime_ns
    first.prepare_data()
    assert path.stat().st_mtime_ns == before
    second.prepare_data()
    assert path.read_bytes() == second.files("train")[0].read_bytes()
    region = read_region(path)
    assert region.map.taps.shape == (32, 2, 32, 4) and region.stations.shape == (2, 4)
    # users stand on the ground that the height map shows
    gap = region.map.place[:, 2] - region.heights.at(region.map.place[:, :2])
    assert float((gap - 1.5).abs().median()) < 0.1
