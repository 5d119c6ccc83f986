"""Every YAML under channels/ is a channel model, by file name and by path; the slow test draws links from it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "channels").rglob("*.yaml"))
pytestmark = pytest.mark.skipif(not RECIPES, reason="no recipes here")


def model_of(recipe):
    from airlam.channels import load_channel

    channel = load_channel(recipe)
    return channel.draw(0) if hasattr(channel, "draw") else channel  # a mixture: one fixed channel of it


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_instantiates(path):
    channel = model_of(path)
    polarisations, columns, rows = channel.port_shape
    assert polarisations * columns * rows == channel.num_tx_ant
    assert model_of(path.stem).recipe == channel.recipe, "a recipe's bare name and its path are the same recipe"


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_draws_links(path):
    from airlam.channels import rt_available

    channel = model_of(path)
    if channel.recipe["scenario"].startswith("ray_traced") and not rt_available():
        pytest.skip(rt_available().reason)
    num_links = max(2, channel.recipe.get("links_per_drop", 1))  # a drop is never split
    links = channel.sample(num_links, 3, seed=1)
    assert links.h.shape == (num_links, 3, channel.num_subcarriers, channel.num_rx_ant, channel.num_tx_ant)
    assert links.h.isfinite().all()
    assert links.h.abs().square().mean(dim=(1, 2, 3, 4)).sub(1).abs().max() < 1e-4  # float32 sums of about 10^4 terms
