"""The allow-list: what is loaded, what lies in memory once, what is refused."""

from __future__ import annotations

import pytest
import torch

import airlam
from airlam.errors import CheckpointError, RecipeError
from airlam.models import AirlamPredictor, add_lora, load_checkpoint, load_lora, save_checkpoint, save_lora
from airlam.realtime import FastPredictor
from airlam.recipes import find_checkpoint
from airlam.serving import Client
from airlam.serving.catalogue import Catalogue
from airlam.serving.config import ServingConfig
from airlam.serving.jobs import Job, run
from airlam.serving.plain import PlainServer
from airlam.testing.histories import PORTS, history


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> dict[str, str]:
    """Adapters of three sites, with random weights."""
    folder, out = tmp_path_factory.mktemp("sites"), {}
    for seed, name in enumerate(("harbour", "market", "station")):
        torch.manual_seed(seed)
        adapted = add_lora(load_checkpoint(find_checkpoint("airlam-tiny")), rank=4)
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=0.05)
        save_lora(adapted, folder / name)
        out[name] = str(folder / name)
    return out


def test_every_site_gets_its_own_adapter(sites):
    config = ServingConfig(predictors={"airlam-tiny": {"adapters": sites}, "hold": {}}, classic="hold")
    h_past, found = history(3), {}
    with PlainServer(config, port=0) as server:
        for name in (*sites, "", *sites):  # again and again: all stay loaded
            with Client(server.address, model="airlam-tiny", adapter=name) as client:
                found.setdefault(name, []).append(client.predict(h_past, 2, port_shape=PORTS))
    for name, values in found.items():
        model = load_checkpoint(find_checkpoint("airlam-tiny"))
        expected = AirlamPredictor(load_lora(model, sites[name]) if name else model).predict(
            h_past, 2, port_shape=PORTS
        )
        for value in values:
            assert (value - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not torch.allclose(found["harbour"][0], found["market"][0], atol=1e-3)


def storages(catalogue: Catalogue, name: str) -> set[int]:
    return {
        parameter.data_ptr()
        for module in catalogue._modules()
        for key, parameter in module.named_parameters()
        if name in key and parameter.numel() >= 1024
    }


def test_adapters_share_the_weights_of_one_backbone(sites):
    alone = Catalogue(ServingConfig(predictors={"airlam-tiny": {}}, classic=""))
    adapted = Catalogue(ServingConfig(predictors={"airlam-tiny": {"adapters": sites}}, classic=""))
    name = "intermediate.dense"
    weights = {
        parameter.data_ptr()
        for module in adapted._modules()
        for key, parameter in module.named_parameters()
        if name in key and "lora" not in key and parameter.numel() >= 1024
    }
    assert len(weights) == len(storages(alone, name))


def test_equal_backbones_of_several_checkpoints_lie_in_memory_once(tmp_path):
    """Variants that were trained on a frozen backbone bring a copy of it."""
    model = load_checkpoint(find_checkpoint("airlam-tiny"))
    torch.nn.init.normal_(model.head.weight)
    save_checkpoint(model, tmp_path / "variant")
    served = {"airlam-tiny": {}, "variant": {"source": str(tmp_path / "variant")}}
    both = Catalogue(ServingConfig(predictors=served, classic=""))
    one = Catalogue(ServingConfig(predictors={"airlam-tiny": {}}, classic=""))
    assert len(storages(both, "backbone.encoder")) == len(storages(one, "backbone.encoder"))
    assert len(storages(both, "head")) == 2
    h_past = history(2)
    expected = airlam.load_predictor(str(tmp_path / "variant")).predict(h_past, 2, port_shape=PORTS)
    assert torch.equal(both.method("variant").predictor.predict(h_past, 2, port_shape=PORTS), expected)


def test_kernels_answer_predictions_and_torch_all_else(sites):
    """The values are those of the kernels in process to the bit, and those of torch to rounding."""
    served = {"airlam-tiny": {"runtime": "kernels", "adapters": {"harbour": sites["harbour"]}}}
    catalogue = Catalogue(ServingConfig(predictors=served, classic=""))
    h_past, predictor = history(2), airlam.load_predictor("airlam-tiny")
    method, adapted = catalogue.method("airlam-tiny"), catalogue.method("airlam-tiny", "harbour")
    gaps = torch.ones(2, h_past.shape[1], dtype=torch.bool)
    gaps[:, 3] = False
    jobs = [
        Job(method, h_past, 2, PORTS),
        Job(method, h_past, 2, PORTS, frozenset({"future", "variance"})),
        Job(method, h_past.clone(), 2, PORTS, observed=gaps),
        Job(adapted, h_past, 2, PORTS),
    ]
    fast, full, lossy, site = run([job.check() for job in jobs])
    assert isinstance(method.fast, FastPredictor)
    assert torch.equal(fast["future"], method.fast.predict(h_past, 2, port_shape=PORTS))
    expected, variance = predictor.predict_with_variance(h_past, 2, port_shape=PORTS)
    assert (fast["future"] - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert (full["future"] - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (full["variance"] - variance).abs().max() <= 1e-5 * variance.abs().max()
    with_gaps = predictor.predict(jobs[2].h_past, 2, port_shape=PORTS, context={"observed": gaps})
    assert (lossy["future"] - with_gaps).abs().max() <= 1e-5 * with_gaps.abs().max()
    assert (site["future"] - expected).abs().max() > 1e-3 * expected.abs().max()


@pytest.mark.parametrize(
    ("served", "error", "message"),
    [
        ({"ar": {"adapters": {"a": "x"}}}, RecipeError, "only airlam checkpoints take LoRA adapters"),
        ({"ar": {"runtime": "kernels"}}, RecipeError, "runtime 'kernels', which is for airlam checkpoints"),
        ({"airlam-tiny": {"adapters": {"a": "no/such/folder"}}}, CheckpointError, "pickled adapters are not loaded"),
        ({"airlam-tini": {}}, CheckpointError, "did you mean"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(served, error, message):
    with pytest.raises(error, match=message):
        Catalogue(ServingConfig(predictors=served, classic=""))
