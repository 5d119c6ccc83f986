"""A parallel adapter: gradients stay out of the backbone, hidden states may come from elsewhere, files come back."""

from __future__ import annotations

import json

import pytest
import torch

import airlam
from airlam.errors import CheckpointError
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor, add_parallel_adapter, save_parallel_adapter
from airlam.models.checkpoint import load_checkpoint
from airlam.models.parallel_adapter import CONFIG, WEIGHTS, load_parallel_adapter
from airlam.recipes import find_checkpoint
from airlam.tasks.objectives import forecast_target, predicted_error
from airlam.testing.predictor import PredictorContract

SHAPE = (2, 2, 2)


@pytest.fixture(params=["units", "attention"])
def adapted(request):
    torch.manual_seed(0)
    base = load_checkpoint(find_checkpoint("airlam-tiny"))
    base.config._name_or_path = "airlam-tiny"
    return add_parallel_adapter(base, rank=6, form=request.param)


def disturbed(model):
    torch.nn.init.normal_(model.adapter.up.weight, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def h():
    return torch.randn(3, 20, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))


def test_it_starts_as_its_base(adapted, h):
    with torch.no_grad():
        want = adapted.base(h[:, :16], 4, port_shape=SHAPE)
        torch.testing.assert_close(adapted.eval()(h[:, :16], 4, port_shape=SHAPE), want, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_the_base_and_all_of_the_adapter_gets_one(adapted, h):
    model = disturbed(adapted).train()
    target = forecast_target(model, h[:, :16], h[:, 16:], SHAPE)
    torch.log(predicted_error(model, target)).sum().backward()
    assert all(value.grad is None for value in model.base.parameters())
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in model.adapter.parameters())
    assert not model.base.training and model.adapter.training


def test_hidden_states_that_were_kept_give_the_same_loss_and_gradients(adapted, h):
    model = disturbed(adapted)
    target = forecast_target(model, h[:, :16], h[:, 16:], SHAPE)
    values = []
    for kept in (None, model.states(target.tokens.features)):
        target.tokens.hidden = kept
        model.zero_grad()
        loss = torch.log(predicted_error(model, target)).mean()
        loss.backward()
        values.append([loss.detach(), *(value.grad.clone() for value in model.adapter.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*values, strict=True))


def test_a_saved_adapter_predicts_the_same(adapted, h, tmp_path):
    model = disturbed(adapted)
    folder = save_parallel_adapter(model, tmp_path / "site")
    assert json.loads((folder / CONFIG).read_text())["base"] == "airlam-tiny"
    loaded = airlam.load_predictor(folder)
    assert loaded.name == "site"
    want = AirlamPredictor(model).predict(h, 4, port_shape=SHAPE)
    assert torch.equal(loaded.predict(h, 4, port_shape=SHAPE), want)
    assert loaded.predict_with_variance(h, 4, port_shape=SHAPE)[1].shape == want.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 7}, "shape"),
        ({"form": "loops"}, "form"),
        ({"states": 9}, "states is 9, but that of the base is 5"),
        ({"base_sha256": "0"}, "trained beside other weights"),
        ({"weights_sha256": "0"}, "missing or damaged"),
        ({"depth": 3}, "'depth'"),
        ({"base": "airlam-tin"}, "airlam-tiny"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path, change, words):
    base = load_checkpoint(find_checkpoint("airlam-tiny"))
    base.config._name_or_path = "airlam-tiny"
    folder = save_parallel_adapter(add_parallel_adapter(base, rank=6), tmp_path)
    fields = json.loads((folder / CONFIG).read_text()) | change
    (folder / CONFIG).write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=words) as raised:
        load_parallel_adapter(folder)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_an_unsaved_base_are_named(tmp_path):
    model = add_parallel_adapter(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), rank=2)
    with pytest.raises(CheckpointError, match="was never saved"):
        save_parallel_adapter(model, tmp_path / "a")
    model.config._name_or_path = "airlam-tiny"
    folder = save_parallel_adapter(model, tmp_path / "b")
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        airlam.load_predictor(folder)


@pytest.mark.parametrize(("fields", "words"), [({"context": ["velocity"]}, "sensors"), ({"loops": 2}, "looped layers")])
def test_models_that_no_adapter_can_stand_beside(fields, words):
    with pytest.raises(ValueError, match=words):
        add_parallel_adapter(AirlamModel(AirlamConfig(**fields)))


class TestContract(PredictorContract):
    """With a trained base and an adapter that changes little."""

    variance_factor = None  # a random adapter spoils the calibration of its base

    def make(self):
        model = add_parallel_adapter(load_checkpoint(find_checkpoint("airlam-tiny")), rank=4)
        torch.manual_seed(0)
        torch.nn.init.normal_(model.adapter.up.weight, std=0.01)
        return AirlamPredictor(model, "adapted")
