"""A cache gives back what it was given, and refuses what is not its own."""

from __future__ import annotations

import pytest
import torch

from airlam.edge.parallel import ParallelTraining
from airlam.edge.parallel.adapters.cache import ActivationCache
from airlam.edge.parallel.adapters.recipe import Adapter
from airlam.edge.parallel.engine.building import check_mode
from airlam.errors import RecipeError, StoreError
from airlam.models import AirlamConfig, AirlamModel
from airlam.tasks.objectives import forecast_target

FACTS = {"model": "a", "data": "b"}
TASK = {"class_path": "airlam.tasks.ChannelPrediction"}


@pytest.fixture(scope="module")
def target():
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(num_tokens=6, num_groups=1, group_size=2, doppler_grid=33))
    h = torch.randn(3, 12, 4, 1, 4, dtype=torch.complex64)
    found = forecast_target(model, h[:, :10], h[:, 10:], (1, 2, 2))
    found.tokens.hidden = torch.randn(3, 7, 5, 128)
    return model, found


def test_the_loss_is_the_same_to_the_bit(tmp_path, target):
    model, made = target
    cache = ActivationCache(tmp_path, FACTS)
    size = cache.write(4, (0, 3), made)
    kept = cache.read(4, (0, 3))
    made.tokens.hidden = made.tokens.hidden[:, :, -1]  # what the plain model reads
    assert torch.equal(kept.tokens.hidden[:, :, -1], made.tokens.hidden)
    kept.tokens.hidden = made.tokens.hidden
    assert torch.equal(kept.error(kept.told(model)), made.error(made.told(model)))
    assert cache.places((0, 3)) == {4} and cache.places((0, 2)) == set() and cache.size == size


@pytest.mark.parametrize("other", [{"model": "c", "data": "b"}, {"model": "a", "data": "c"}])
def test_another_model_or_data_is_refused(tmp_path, other):
    ActivationCache(tmp_path, FACTS)
    with pytest.raises(StoreError, match=r"holds activations of another (model|data) .* delete this one"):
        ActivationCache(tmp_path, other)


def test_a_file_that_was_cut_short_is_no_place_and_a_missing_one_is_named(tmp_path, target):
    cache = ActivationCache(tmp_path, FACTS)
    cache.write(0, (0, 3), target[1])
    path = cache.path(0, (0, 3))
    path.write_bytes(path.read_bytes()[:-10])
    assert cache.places((0, 3)) == set()
    with pytest.raises(StoreError, match="000000_0_3"):
        cache.read(0, (0, 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "tensor"}, "mode is tensor, but adapters of kind parallel train in mode data or pipeline"),
        ({"mode": "pipeline", "adapter": Adapter("lora")}, "kind lora train in mode data"),
        ({"precision": "bf16-mixed"}, "32-true"),
        ({"task": {"class_path": "airlam.tasks.Pretraining"}}, "channel prediction"),
        ({"checkpoint": None}, "needs a checkpoint"),
        ({"data": {"channel": "uma_nlos"}}, "num_train of the data is null"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    given = {"checkpoint": "airlam-tiny", "data": "tiny", "adapter": Adapter(), "task": TASK, **changes}
    with pytest.raises(RecipeError, match=words):
        check_mode(ParallelTraining(**given))


def test_ranks_and_kinds_have_bounds():
    with pytest.raises(RecipeError, match="adapter.kind"):
        Adapter("loraa")
    with pytest.raises(RecipeError, match="adapter.rank"):
        Adapter(rank=0)
