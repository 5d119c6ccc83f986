"""A backbone as a row of layers: what stands before them, each of them, what stands behind.

Hugging Face's transformers run from end to end. Training that cuts one into stages, shares its tokens out, or loops its
layers calls the three parts by themselves: ``leave(b, run(b, enter(b, x), layers_of(b)))`` is
``b(inputs_embeds=x).last_hidden_state``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# model types whose layers this file knows how to call
ENCODERS = ("roberta-prelayernorm", "roberta", "bert")
ROTARY = ("llama",)
GPT = ("gpt2",)
LAYERED = (*ENCODERS, *ROTARY, *GPT)


def check_layered(backbone: Any) -> None:
    """Raises ValueError unless the layers of ``backbone`` can be called one by one."""
    kind = backbone.config.model_type
    if kind not in LAYERED or getattr(backbone.config, "is_decoder", False):
        raise ValueError(
            f"a backbone of type {kind!r} cannot be taken apart into layers; types that can: {', '.join(LAYERED)}"
        )


def layers_of(backbone: Any) -> nn.ModuleList:
    """The layers, first to last."""
    kind = backbone.config.model_type
    if kind in ENCODERS:
        return backbone.encoder.layer
    return backbone.layers if kind in ROTARY else backbone.h


def layer_prefix(backbone: Any) -> str:
    """What the names of the layers' parameters begin with, within the backbone.

    Example:
        >>> from airlam.models.backbone import build_backbone
        >>> layer_prefix(build_backbone({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}))
        'h.'
    """
    kind = backbone.config.model_type
    return "encoder.layer." if kind in ENCODERS else "layers." if kind in ROTARY else "h."


def is_causal(backbone: Any) -> bool:
    """Whether a token sees only those before it."""
    return backbone.config.model_type not in ENCODERS


def enter(backbone: Any, x: Tensor, first: int = 0) -> Tensor:
    """Embedded tokens ``[link, token, width]`` -> the first layer's input: positions are added.

    Args:
        first: position of the first of these tokens, where they are a part of a longer row.
    """
    kind = backbone.config.model_type
    places = torch.arange(first, first + x.shape[1], device=x.device).expand(len(x), -1)
    if kind in ENCODERS:
        padded = kind != "bert"  # RoBERTa counts its positions from behind the padding's own
        offset = backbone.config.pad_token_id + 1 if padded else 0
        return backbone.embeddings(inputs_embeds=x, position_ids=places + offset)
    if kind in ROTARY:
        return x
    return backbone.drop(x + backbone.wpe(places))


def run(backbone: Any, x: Tensor, layers: Iterable[nn.Module], first: int = 0, *, whole: bool = True) -> Tensor:
    """``x`` through some of the layers.

    Args:
        first: see :func:`enter`.
        whole: whether these are all tokens. If not, attention must itself find the others and mask those to come; see
            :mod:`airlam.models.sharding`.
    """
    given: dict[str, Any] = {}
    if is_causal(backbone) and whole:
        length = x.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        given["attention_mask"] = x.new_zeros(1, 1, length, length).masked_fill(hidden, torch.finfo(x.dtype).min)
    if backbone.config.model_type in ROTARY:
        places = torch.arange(first, first + x.shape[1], device=x.device)[None]
        given["position_embeddings"] = backbone.rotary_emb(x, position_ids=places)
    for layer in layers:
        x = layer(x, **given)
    return x


def leave(backbone: Any, x: Tensor) -> Tensor:
    """The last layer's output -> the backbone's."""
    kind = backbone.config.model_type
    if kind == "roberta-prelayernorm":
        return backbone.LayerNorm(x)
    if kind in ROTARY:
        return backbone.norm(x)
    return backbone.ln_f(x) if kind in GPT else x


def looped(backbone: Any, x: Tensor, loops: int) -> Tensor:
    """The backbone with its row of layers run through ``loops`` times, with the same parameters each time."""
    x = enter(backbone, x)
    for _ in range(loops):
        x = run(backbone, x, layers_of(backbone))
    return leave(backbone, x)
