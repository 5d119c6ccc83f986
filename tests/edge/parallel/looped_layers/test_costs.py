"""What looping costs a device: no parameters, but activations and bytes with every loop."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.cost_model.volume import CONTROL_BYTES
from airlam.edge.parallel.looped_layers.costs import STATE_BYTES, costs, first_part
from airlam.errors import RecipeError
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.config import DEFAULT_BACKBONE

WIDTH, HEADS, UNITS = 16, 4, 32
LINKS, TOKENS = 2, 12


def model(layers: int, loops: int) -> AirlamModel:
    small = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": UNITS}
    return AirlamModel(AirlamConfig({**DEFAULT_BACKBONE, **small, "num_hidden_layers": layers}, loops=loops))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_loops_add_no_parameter(devices):
    found = [costs(model(2, loops), devices, links=LINKS, tokens=TOKENS) for loops in (1, 2, 4)]
    assert len({each.parameters for each in found}) == 1
    assert {each.state_bytes for each in found} == {STATE_BYTES * found[0].parameters}


def test_activations_and_bytes_grow_with_depth():
    depths = [(2, 1), (2, 2), (2, 3), (2, 4)]
    kept = [costs(model(*depth), 2, links=LINKS, tokens=TOKENS) for depth in depths]
    steps = {b.activation_bytes - a.activation_bytes for a, b in zip(kept[1:], kept[2:], strict=False)}
    assert len(steps) == 1 and steps.pop() > 0  # each further run through the row keeps as much
    one = LINKS * TOKENS * WIDTH * 4
    assert [each.payload_bytes for each in kept] == [
        2 * (4 * 2 * loops + 1) * one + CONTROL_BYTES for _, loops in depths
    ]


def test_bytes_depend_on_depth_alone():
    looped, unshared = (costs(model(*depth), 4, links=LINKS, tokens=TOKENS) for depth in ((1, 4), (4, 1)))
    assert looped.payload_bytes == unshared.payload_bytes and looped.server_bytes == unshared.server_bytes
    assert looped.parameters < unshared.parameters


def test_the_first_part_holds_its_share():
    whole, part = model(1, 2), first_part(model(1, 2), 4)
    layer, cut = (m.backbone.encoder.layer[0] for m in (whole, part))
    assert cut.attention.self.query.weight.numel() * 4 == layer.attention.self.query.weight.numel()
    assert cut.output.dense.weight.shape == (WIDTH, UNITS // 4)
    assert cut.intermediate.LayerNorm.weight.shape == layer.intermediate.LayerNorm.weight.shape
    assert part.embedding[0].weight.shape == (WIDTH, -(-whole.num_features // 4))


def test_one_device_sends_nothing_and_holds_all():
    whole = model(2, 2)
    alone = costs(whole, 1, links=LINKS, tokens=TOKENS)
    assert alone.payload_bytes == 0 and alone.server_bytes == 0
    assert alone.parameters == sum(p.numel() for p in whole.parameters() if p.requires_grad)


def test_more_devices_than_heads():
    with pytest.raises(RecipeError, match="attention heads"):
        costs(model(1, 1), HEADS + 1, links=LINKS, tokens=TOKENS)
