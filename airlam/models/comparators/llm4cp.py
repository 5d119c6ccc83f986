"""LLM4CP-style: GPT-2 as the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GPT2Config, GPT2Model

from airlam.models.comparators.language import LanguageModelComparator


class LLM4CPComparator(LanguageModelComparator):
    """GPT-2's first layers, frozen except for layer norms and position embeddings; see
    :class:`LanguageModelComparator`.

    The frozen weights are *random* unless ``pretrained`` names a local folder or a hub id with GPT-2's weights
    (safetensors). Language pretraining is then no part of the comparison; the paper's own ablation, and that of other
    authors, finds that it matters little where data abound. The word embedding is dropped: nothing uses it.

    Args:
        num_layers: of the language model, the first ones if it has more. width, num_heads: of random weights.
        pretrained: folder or hub id; None: random weights.

    Example:
        >>> import torch
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> LLM4CPComparator(width=32, num_layers=1, num_heads=2)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "llm4cp"

    def __init__(
        self,
        *,
        history: int = 16,
        horizon: int = 4,
        num_subcarriers: int = 48,
        beams_per_sequence: int = 1,
        num_layers: int = 6,
        width: int = 768,
        num_heads: int = 12,
        pretrained: str | Path | None = None,
    ):
        changes: dict[str, Any] = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
        if pretrained is None:
            words = dict(vocab_size=1, bos_token_id=0, eos_token_id=0)
            model = GPT2Model(GPT2Config(n_layer=num_layers, n_embd=width, n_head=num_heads, **words, **changes))
        else:
            model = GPT2Model.from_pretrained(pretrained, use_safetensors=True, **changes)
            model.h = model.h[:num_layers]
            model.config.n_layer, model.config.vocab_size = len(model.h), 1
            model.wte = type(model.wte)(1, model.config.n_embd)
            num_layers, width, num_heads = model.config.n_layer, model.config.n_embd, model.config.n_head
        super().__init__(
            model,
            history=history,
            horizon=horizon,
            num_subcarriers=num_subcarriers,
            beams_per_sequence=beams_per_sequence,
            num_layers=num_layers,
            width=width,
            num_heads=num_heads,
            pretrained=None,  # the weights travel with this model
        )
