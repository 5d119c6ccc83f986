"""Backbones whose heads, hidden units or tokens are shared out over processes.

Which linear layers of a Hugging Face layer are cut, and along which axis, stands here; how the parts are summed and
gathered is the caller's business (:mod:`airlam.edge.parallel`), given as functions.

* A *column* layer keeps some of its outputs: rows of the weight, entries of the bias.
* A *row* layer keeps some of its inputs: columns of the weight. Its outputs are partial sums; the bias comes after.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from airlam.models.layers import ENCODERS, ROTARY, check_layered, is_causal

COLUMN, ROW = "column", "row"


@dataclass(frozen=True)
class Style:
    """How a layer of one family of transformers is cut.

    Attributes:
        entries: modules whose input is the whole hidden state; its gradient is a sum over the parts.
        heads: linear layer -> column or row, cut by attention heads. units: the same, cut by hidden units.
    """

    entries: tuple[str, ...]
    heads: dict[str, str]
    units: dict[str, str]


ENCODER_STYLE = Style(
    entries=("attention.self", "intermediate.dense"),
    heads={
        "attention.self.query": COLUMN,
        "attention.self.key": COLUMN,
        "attention.self.value": COLUMN,
        "attention.output.dense": ROW,
    },
    units={"intermediate.dense": COLUMN, "output.dense": ROW},
)
ROTARY_STYLE = Style(
    entries=("self_attn", "mlp"),
    heads={"self_attn.q_proj": COLUMN, "self_attn.k_proj": COLUMN, "self_attn.v_proj": COLUMN, "self_attn.o_proj": ROW},
    units={"mlp.gate_proj": COLUMN, "mlp.up_proj": COLUMN, "mlp.down_proj": ROW},
)
STYLES = {**dict.fromkeys(ENCODERS, ENCODER_STYLE), **dict.fromkeys(ROTARY, ROTARY_STYLE)}


def style_of(backbone: Any) -> Style:
    """How the layers of a backbone are cut.

    Raises:
        ValueError: there is no way known for this model type.
    """
    kind = backbone.config.model_type
    if kind not in STYLES:
        raise ValueError(
            f"a backbone of type {kind!r} has no tensor-parallel style; types that have one: {', '.join(STYLES)}. "
            "Modes data, sequence and pipeline train it"
        )
    check_layered(backbone)
    return STYLES[kind]


def num_heads(backbone: Any) -> int:
    """What the heads' shares count: attention heads, or groups of them that share a key head."""
    config = backbone.config
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def num_units(backbone: Any) -> int:
    """Hidden units of a feed-forward block."""
    return backbone.config.intermediate_size


def cuts(backbone: Any, heads: tuple[int, int], units: tuple[int, int]) -> dict[str, tuple[str, int, int]]:
    """Of every linear layer within a layer that is cut: column or row, first feature, number of features.

    Args:
        heads: (first, stop) of this part's heads; see :func:`num_heads`. units: likewise of its hidden units.
    """
    style, total = style_of(backbone), num_heads(backbone)
    found = {}
    for name, kind in style.heads.items():
        whole = _features(backbone, name)
        per_head = whole // total
        found[name] = (kind, heads[0] * per_head, (heads[1] - heads[0]) * per_head)
    for name, kind in style.units.items():
        found[name] = (kind, units[0], units[1] - units[0])
    return found


def _features(backbone: Any, name: str) -> int:
    """Features of a layer that is cut by heads: queries and outputs have more than grouped keys and values."""
    config = backbone.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    grouped = name.endswith(("k_proj", "v_proj"))
    return width * (num_heads(backbone) if grouped else config.num_attention_heads)


class RowLinear(nn.Linear):
    """A linear layer that keeps some of its inputs: partial sums, summed by ``total``, then the bias."""

    total: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """``[..., own in_features]`` -> ``[..., out_features]``."""
        out = self.total(nn.functional.linear(x, self.weight))
        return out if self.bias is None else out + self.bias


def make_row(layer: nn.Module, total: Callable[[Tensor], Tensor]) -> None:
    """Turn a linear layer, whose weight has been cut, into a :class:`RowLinear`."""
    layer.__class__ = RowLinear
    layer.total = total  # type: ignore[assignment]


def enter_through(module: nn.Module, copy: Callable[[Tensor], Tensor]) -> None:
    """Let the hidden state enter ``module`` through ``copy``, which sums the gradient."""

    def hook(_: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if given:
            return (copy(given[0]), *given[1:]), named
        return given, {**named, "hidden_states": copy(named["hidden_states"])}

    module.register_forward_pre_hook(hook, with_kwargs=True)


_numbers = itertools.count()


def share_tokens(backbone: Any, gather: Callable[[Tensor, int], Tensor], first: Callable[[], int]) -> None:
    """Attention over the tokens of all processes, where each has a part of them.

    Args:
        gather: all parts of a tensor along an axis.
        first: position of this part's first token.

    Raises:
        ValueError: the backbone cannot be called layer by layer (:func:`airlam.models.layers.check_layered`).
    """
    check_layered(backbone)
    causal = is_causal(backbone)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, None]:
        both = gather(torch.stack([key, value]), 3)
        key, value = both[0], both[1]
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        seen = None
        if causal:
            places = torch.arange(query.shape[2], device=query.device) + first()
            seen = torch.arange(key.shape[2], device=query.device) <= places[:, None]
        out = nn.functional.scaled_dot_product_attention(
            query, key, value, seen, dropout_p=given.get("dropout", 0.0), scale=given.get("scaling")
        )
        return out.transpose(1, 2).contiguous(), None

    name = f"shared_tokens_{next(_numbers)}"
    AttentionInterface.register(name, attention)
    backbone.set_attn_implementation(name)
