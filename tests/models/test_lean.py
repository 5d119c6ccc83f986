"""Lean networks: the values of the model's own network, from the same weights."""

from __future__ import annotations

import pytest
import torch

from airlam.loading import load_predictor
from airlam.models import AirlamConfig, AirlamModel, add_lora
from airlam.models.layers import ENCODERS
from airlam.models.lean import LeanNetwork, OneDnnProduct, Product
from airlam.models.linear import onednn_works


def small(kind: str = "roberta-prelayernorm", backbone: dict | None = None, **fields) -> AirlamModel:
    """A model of two layers whose every weight says something."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    body = {"model_type": kind, **sizes, "vocab_size": 2, **(backbone or {})}
    made = AirlamModel(AirlamConfig(backbone=body, num_tokens=8, num_groups=2, **fields)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def inputs(model: AirlamModel, links: int = 1, tokens: int = 10) -> tuple[torch.Tensor, ...]:
    grid = model.config.doppler_grid
    return torch.randn(links, tokens, model.num_features), torch.randn(links, tokens, grid), torch.rand(links, tokens)


def check(model: AirlamModel, make: type[Product], given: tuple[torch.Tensor, ...]) -> None:
    with torch.inference_mode():
        expected = [x for x in model.network(*given) if x is not None]
        found = LeanNetwork(model, make)(*given)
    assert [x.shape for x in found] == [x.shape for x in expected]
    for a, b in zip(found, expected, strict=True):
        # single precision, other sizes of products
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


@pytest.mark.parametrize("make", [Product, OneDnnProduct])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("fields", [{"error_variance": True}, {"loops": 2}], ids=["variance", "loops"])
def test_it_computes_what_the_model_does(make, kind, fields):
    if make is OneDnnProduct and not onednn_works():
        pytest.skip("this build of torch has no oneDNN")
    model = small(kind, **fields)
    for links, tokens in ((1, 10), (3, 1)):
        check(model, make, inputs(model, links, tokens))


def test_a_shipped_checkpoint():
    model = load_predictor("airlam-tiny").model
    check(model, Product, inputs(model, tokens=80))


def test_it_owns_its_weights():
    model = small()
    given = inputs(model)
    network = LeanNetwork(model)
    before = network(*given)
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(network(*given), before, strict=True))
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable and any(trainable)
    assert not list(network.parameters()) or not any(p.requires_grad for p in network.parameters())


def test_models_without_a_lean_form():
    gpt2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 2}
    with pytest.raises(ValueError, match="'gpt2' has no lean form"):
        LeanNetwork(AirlamModel(AirlamConfig(backbone=gpt2)))
    with pytest.raises(ValueError, match="only 'gelu'"):
        LeanNetwork(small(backbone={"hidden_act": "relu"}))
    with pytest.raises(ValueError, match="velocity"):
        LeanNetwork(small(context=["velocity"]))
    with pytest.raises(ValueError, match="not of a PeftModel"):
        LeanNetwork(add_lora(small(), rank=2))
    half = small()
    half.backbone.to(torch.bfloat16)
    with pytest.raises(ValueError, match="single precision"):
        LeanNetwork(half)
    model = small(backbone={"max_position_embeddings": 12})
    with pytest.raises(ValueError, match="positions for 10"):
        LeanNetwork(model)(*inputs(model, tokens=11))
