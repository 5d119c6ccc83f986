"""The Hugging Face transformer inside every learned model here."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoModel, PreTrainedModel

from airlam.models.fields import backbone_config, check_backbone_size


def build_backbone(spec: dict[str, Any] | str) -> PreTrainedModel:
    """A Hugging Face transformer from a configuration (random weights), a local folder or a hub id (its weights).

    Raises:
        ValueError: more than :data:`airlam.models.fields.MAX_PARAMETERS` parameters, or sizes that do not fit together;
            a model of airlam.
    """
    if isinstance(spec, str):
        model = AutoModel.from_pretrained(spec)
        if model.config.model_type.startswith("airlam"):  # those types are registered, too
            raise ValueError(
                f"backbone names {spec}, a model of airlam, which cannot be the backbone of another; load it with "
                "AirlamModel.from_pretrained, or name a Hugging Face transformer"
            )
    else:
        check_backbone_size(spec)
        model = AutoModel.from_config(backbone_config(spec))
    return model


def freeze_unused(model: PreTrainedModel) -> None:
    """Freeze what gets no gradient in a model on a backbone: word embeddings, pooler, the tracker of phases.

    Tokens are not words, nothing reads the pooler, and :class:`airlam.tasks.PhaseTracking` alone trains the tracker. A
    trainable parameter without a gradient makes distributed training fail.
    """
    backbone: Any = model.backbone
    unused = (backbone.get_input_embeddings(), getattr(backbone, "pooler", None), getattr(model, "tracker", None))
    for module in unused:
        if isinstance(module, nn.Module):
            module.requires_grad_(False)
