"""Backbones taken apart into layers, looped, and batches of tokens taken apart into links and tokens."""

from __future__ import annotations

import pytest
import torch

from airlam.models import AirlamConfig, AirlamModel
from airlam.models.backbone import build_backbone
from airlam.models.layers import LAYERED, enter, layers_of, leave, run
from airlam.tasks.objectives import energy, forecast_target, predicted_error, reconstruction_target

BACKBONES = {
    "roberta-prelayernorm": {"num_hidden_layers": 2, "vocab_size": 4},
    "roberta": {"num_hidden_layers": 2, "vocab_size": 4},
    "bert": {"num_hidden_layers": 2, "vocab_size": 4},
    "llama": {"num_hidden_layers": 2, "vocab_size": 4, "num_key_value_heads": 2},
    "gpt2": {"n_layer": 2, "vocab_size": 4, "n_embd": 32, "n_head": 4},
}


def spec(kind: str) -> dict:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    return {"model_type": kind, **({} if kind == "gpt2" else sizes), **BACKBONES[kind]}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", LAYERED)
def test_the_parts_together_are_the_backbone(kind, attention):
    torch.manual_seed(0)
    backbone = build_backbone(spec(kind)).eval()
    backbone.set_attn_implementation(attention)
    x = torch.randn(2, 9, 32)
    expected = backbone(inputs_embeds=x).last_hidden_state
    found = leave(backbone, run(backbone, enter(backbone, x), layers_of(backbone)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_loops_add_depth_and_no_parameters():
    torch.manual_seed(0)
    once, twice = (AirlamModel(AirlamConfig(num_tokens=8, num_groups=2, loops=loops)).eval() for loops in (1, 2))
    twice.load_state_dict(once.state_dict())
    assert sum(p.numel() for p in once.parameters()) == sum(p.numel() for p in twice.parameters())
    calls = []
    layers_of(twice.backbone)[0].register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(1, 5, 128)
    assert not torch.allclose(once.transform(x), twice.transform(x))
    assert len(calls) == 2
    body, inner = twice.backbone, enter(twice.backbone, x)
    by_hand = leave(body, run(body, run(body, inner, layers_of(body)), layers_of(body)))
    torch.testing.assert_close(twice.transform(x), by_hand)


def test_loops_need_a_backbone_of_layers():
    with pytest.raises(ValueError, match="cannot be taken apart into layers"):
        AirlamModel(
            AirlamConfig(
                backbone={
                    "model_type": "albert",
                    "hidden_size": 32,
                    "embedding_size": 8,
                    "num_attention_heads": 2,
                    "intermediate_size": 32,
                },
                loops=2,
            )
        )


@pytest.mark.parametrize("kind", ["forecast", "reconstruction"])
def test_error_energies_of_parts_add_up(kind):
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(num_tokens=12, num_groups=3, group_size=4)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    h = torch.randn(4, 20, 12, 1, 8, dtype=torch.complex64).cumsum(1)
    if kind == "forecast":
        target = forecast_target(model, h[:, :16], h[:, 16:], (2, 4, 1))
    else:
        observed = torch.rand(16) > 0.3
        target = reconstruction_target(model, h[:, :16], h, observed, (2, 4, 1))
    with torch.no_grad():
        expected = predicted_error(model, target)
        assert target.tokens.features.shape[1] == 15
        links = torch.cat([predicted_error(model, target.part(slice(a, b))) for a, b in ((0, 3), (3, 4))])
        torch.testing.assert_close(links, expected, rtol=2e-4, atol=0)  # single precision, other matrix sizes
        whole = model.transform(model.embedding(target.tokens.features))
        total = target.lost.clone()
        for first, stop in ((0, 5), (5, 13), (13, 15)):  # within the singles, across, within the groups
            part = target.part(slice(None), first, stop)
            part.tokens.hidden = whole[:, first:stop]
            total += energy(part.told(model) - part.kept)
    torch.testing.assert_close(total / target.total, expected, rtol=2e-4, atol=0)
