"""A channel model that costs nothing: Gaussian links with the interface of ``airlam.channels``."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from airlam.channels.link_batch import LinkBatch

TINY = {"channel": {"scenario": "fake"}, "num_train": 20, "num_val": 6, "num_test": 8, "block_size": 8, "seed": 3}


class FakeChannel:
    """Same interface as a ``ChannelModel``, prefix property included: each drop has a generator of its own."""

    num_subcarriers, num_rx_ant, num_tx_ant, port_shape = 6, 1, 4, (2, 1, 2)
    slot_duration, subcarrier_spacing, carrier_frequency = 0.5e-3, 180e3, 2.4e9

    def __init__(self, recipe: dict | str) -> None:
        given = {"scenario": recipe} if isinstance(recipe, str) else recipe
        self.recipe = {"links_per_drop": 1, "speed_kmh": 30.0, "pause": 0.0, **given}

    def sample(self, num_links: int, num_slots: int, *, seed: int, return_rays: bool = False) -> LinkBatch:
        time.sleep(self.recipe["pause"])
        per_drop = self.recipe["links_per_drop"]
        assert num_links % per_drop == 0, "whole drops only"
        torch.manual_seed(0)  # as Sionna does: the caller must shield its own randomness
        generators = [torch.Generator().manual_seed(1000 * seed % 2**40 + n) for n in range(num_links)]
        shape = (num_slots, self.num_subcarriers, self.num_rx_ant, self.num_tx_ant)
        h = torch.stack([torch.randn(shape, dtype=torch.complex64, generator=g) for g in generators])
        first = h[:, 0, 0, 0].abs()
        return LinkBatch(
            h=h,
            gain_db=-100 - first[:, 0],
            path_loss_db=100 + first[:, 1],
            speed=first[:, 0] * self.recipe["speed_kmh"],
            los=first[:, 0] > 1,
            indoor=first[:, 1] > 1,
            delay_spread=first[:, 2] * 1e-7,
            position=first[:, :3],
            velocity=-first[:, :3],
            drop=torch.arange(num_links) // per_drop,
            carrier_frequency=self.carrier_frequency,
            slot_duration=self.slot_duration,
            subcarrier_spacing=self.subcarrier_spacing,
            port_shape=self.port_shape,
            recipe={**self.recipe, "seed": seed},
        )


def use_fake_channel() -> None:
    """Puts the fake in the place of ``load_channel``, for the rest of this process."""
    import airlam.data.batches
    import airlam.data.recipe
    import airlam.data.workers

    for module in (airlam.data.recipe, airlam.data.workers, airlam.data.batches):
        module.load_channel = FakeChannel


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fake(monkeypatch) -> SimpleNamespace:
    """The fake channel in place, and ``.recipe(**changes)`` for a tiny data set of it."""
    for module in ("recipe", "workers", "batches"):
        monkeypatch.setattr(f"airlam.data.{module}.load_channel", FakeChannel)
    return SimpleNamespace(recipe=lambda **changes: {**TINY, **changes}, channel=FakeChannel)


@pytest.fixture
def store_path(fake, tmp_path) -> Path:
    """A finished store of the tiny data set."""
    from airlam.data import generate

    return generate(fake.recipe(), tmp_path / "tiny.h5", workers=1, progress=False)
